"""Runs one scenario with the Python SDK and prints each result message as a line of JSON."""

import asyncio
import json
import pathlib
import sys

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    InMemorySessionStore,
    ResultMessage,
    query,
)

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES / "agent-sdk-python"))
from agent import Agent, isolated  # noqa: E402

UNATTENDED = {"permission_mode": "bypassPermissions"}


def show(result):
    fields = ["session_id", "result", "total_cost_usd", "num_turns", "usage"]
    print(json.dumps({name: getattr(result, name) for name in fields}), flush=True)
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


async def told():
    """Waits for a line from the test, which sees when the model is asked."""
    await asyncio.to_thread(sys.stdin.readline)


async def interrupt(_input):
    async with ClaudeSDKClient(ClaudeAgentOptions(**UNATTENDED)) as sdk:
        task = asyncio.create_task(answer(sdk, "HANGNOW"))
        await told()
        await sdk.interrupt()
        await task


async def abort(_input):
    task = asyncio.create_task(run("HANGNOW and more"))
    await told()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def resume(_input):
    first = show(await run("say hello"))
    show(await run("RUNTWO", resume=first.session_id))
    show(await run("say hello", continue_conversation=True))


async def once(given):
    show(await run(given.pop("prompt"), **given))


async def store(_input):
    session_store = InMemorySessionStore()
    first = show(await run("say hello", session_store=session_store))
    show(await run("RUNTWO", session_store=session_store, resume=first.session_id))


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
    "abort": abort,
    "once": once,
    "store": store,
    "isolated": isolated_agent,
}
asyncio.run(SCENARIOS[sys.argv[1]](json.loads(sys.stdin.readline())))
