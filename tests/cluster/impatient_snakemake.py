"""Snakemake that asks every two seconds how its jobs are; the plugin's own interval grows with each question."""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(executor: RemoteExecutor) -> None:
    await asyncio.sleep(2)


RemoteExecutor.sleep = sleep
sys.exit(main())
