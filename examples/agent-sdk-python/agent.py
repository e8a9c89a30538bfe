"""An agent that names itself and its workflow. Nothing here records anything: the hooks that
`convex-sidecar install` added do, whenever the SDK starts Claude Code.

    python agent.py "Which files are here?"
"""

import asyncio
import sys
from dataclasses import dataclass, field, replace

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query


@dataclass
class Agent:
    type: str
    """What `convex-sidecar sessions` shows as the agent."""
    workflow: str
    """The key of the workflow that its sessions belong to; created if it is new."""
    options: ClaudeAgentOptions = field(default_factory=ClaudeAgentOptions)

    async def run(self, prompt: str, **more) -> ResultMessage:
        """Runs one prompt to its end. `more` are options of this run, such as `resume`."""
        options = replace(self.options, **more)
        # The SDK adds `env` to the environment of this process.
        names = {"CONVEX_SIDECAR_AGENT_TYPE": self.type, "CONVEX_SIDECAR_WORKFLOW": self.workflow}
        options = replace(options, env={**options.env, **names})
        result = None
        # Do not leave the loop early: the SDK would stop Claude Code.
        async for message in query(prompt=prompt, options=options):
            if isinstance(message, ResultMessage):
                result = message
        if result is None:
            raise RuntimeError("Claude Code ended without a result")
        return result


def isolated(settings: str) -> ClaudeAgentOptions:
    """The options of an agent that reads none of the user's settings and is still recorded. The
    file is made by `convex-sidecar install --claude-config-dir FOLDER` and is
    `FOLDER/settings.json`."""
    return ClaudeAgentOptions(setting_sources=[], settings=settings)


async def main() -> None:
    options = ClaudeAgentOptions(allowed_tools=["Read", "Glob", "Grep"], max_turns=10)
    reviewer = Agent("reviewer", "review-2026-11", options)
    result = await reviewer.run(sys.argv[1] if len(sys.argv) > 1 else "Which files are here?")
    print(result.result)
    print(f"convex-sidecar show {result.session_id}")


if __name__ == "__main__":
    asyncio.run(main())
