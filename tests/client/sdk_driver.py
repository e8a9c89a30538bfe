"""Runs one scenario with the Python SDK and prints each result message as a line of JSON."""

import asyncio
import json
import os
import pathlib
import sys

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, query

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES / "agent-sdk-python"))
from agent import Agent, isolated  # noqa: E402

UNATTENDED = {"permission_mode": "bypassPermissions"}


def show(result, **more):
    fields = ["session_id", "result", "total_cost_usd", "num_turns", "usage"]
    print(json.dumps({name: getattr(result, name) for name in fields} | more), flush=True)
    return result


async def run(prompt, **options):
    options = ClaudeAgentOptions(**UNATTENDED | options)
    async for message in query(prompt=prompt, options=options):
        if isinstance(message, ResultMessage):
            result = message
    return result


async def answer(client, prompt):
    await client.query(prompt)
    async for message in client.receive_response():
        if isinstance(message, ResultMessage):
            show(message)


async def example(_input):
    agent = Agent("reviewer", "review-1", ClaudeAgentOptions(**UNATTENDED))
    show(await agent.run("say hello"))


async def client(_input):
    async with ClaudeSDKClient(ClaudeAgentOptions(**UNATTENDED)) as sdk:
        await answer(sdk, "say hello")
        await answer(sdk, "RUNTWO")


async def interrupt(_input):
    async with ClaudeSDKClient(ClaudeAgentOptions(**UNATTENDED)) as sdk:
        task = asyncio.create_task(answer(sdk, "HANGNOW"))
        await asyncio.sleep(3)
        await sdk.interrupt()
        await task


async def resume(_input):
    first = show(await run("say hello"))
    show(await run("RUNTWO", resume=first.session_id))
    show(await run("say hello", continue_conversation=True))


async def fork(_input):
    parent = await run("say hello")
    show(parent, messages=2)
    show(await run("RUNTWO", resume=parent.session_id, fork_session=True))


async def isolated_agent(given):
    if given.get("settings"):
        options = isolated(given["settings"])
    else:
        given = {name: value for name, value in given.items() if value}
        options = ClaudeAgentOptions(setting_sources=[], **given)
    agent = Agent("reviewer", "review-1", options)
    show(await agent.run("say hello", **UNATTENDED))


SCENARIOS = {
    "example": example,
    "client": client,
    "interrupt": interrupt,
    "resume": resume,
    "fork": fork,
    "isolated": isolated_agent,
}
asyncio.run(SCENARIOS[sys.argv[1]](json.load(sys.stdin)))
