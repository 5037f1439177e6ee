"""Clients with an ordinary psycopg_pool, as applications have: what they notice while Larders behind a balancer come and go.

The same as src/main.rs, which is for sqlx; see there for what it prints.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import time

from psycopg_pool import AsyncConnectionPool

GAP = 0.25  # a client that is not served for longer says so
ROWS = 100  # of the table t, whose v is ten times its id


class Tally:
    reads = transactions = failed = served = 0
    longest_gap = 0.0
    stop = False


async def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", required=True, help="where the balancer is")
    arguments.add_argument("--clients", type=int, default=25, help="clients, and connections of the pool")
    arguments.add_argument("--max-lifetime", type=float, default=0, help="seconds after which the pool replaces a connection; 0: never")
    arguments.add_argument("--think", type=int, default=25, help="mean time between two pieces of work of a client, in milliseconds")
    arguments = arguments.parse_args()
    # It says so of every connection that its test finds closed.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    tally, check = Tally(), Check()
    pool = AsyncConnectionPool(
        arguments.url, open=False, kwargs={"autocommit": True}, min_size=arguments.clients, max_size=arguments.clients,
        max_lifetime=arguments.max_lifetime or 10**9, timeout=30, check=check)
    check.pool = pool
    async with pool:
        clients = [asyncio.create_task(client(pool, tally, arguments.think / 1000)) for _ in range(arguments.clients)]
        while tally.served < arguments.clients:
            await asyncio.sleep(0.01)
        say(ready=arguments.clients)
        await asyncio.to_thread(sys.stdin.read)
        tally.stop = True
        await asyncio.gather(*clients)
    say(reads=tally.reads, transactions=tally.transactions, failed=tally.failed, longest_gap_ms=round(tally.longest_gap * 1000))


class Check:
    """Tries a connection before it is given out. A client that finds two of them closed is made to wait a second by
    psycopg_pool; so the first that is found closed has all of them tried, and replaced, at once."""

    pool = cleaning = None

    async def __call__(self, connection):
        try:
            await AsyncConnectionPool.check_connection(connection)
        except Exception:
            if not self.cleaning or self.cleaning.done():
                self.cleaning = asyncio.create_task(self.pool.check())
            raise


async def client(pool, tally, think):
    last = None
    while not tally.stop:
        number, writes, started, steps = random.randrange(ROWS), random.randrange(5) == 0, time.time(), []
        try:
            async with pool.connection() as connection:
                if writes:
                    await transact(connection, number, steps)
                else:
                    await read(connection, number)
        except Exception as error:
            tally.failed += 1
            say(failed=f"{type(error).__name__}: {error}".strip(), **{"from": started}, to=time.time(), begun=bool(steps))
        else:
            tally.transactions += writes
            tally.reads += not writes
            if last is None:
                tally.served += 1
            else:
                note_gap(time.monotonic() - last, tally)
            last = time.monotonic()
        await asyncio.sleep(random.uniform(0, 2 * think))


async def read(connection, number):
    cursor = await connection.execute("SELECT v FROM t WHERE id = %s", (number,))
    (value,) = await cursor.fetchone()
    assert value == number * 10, f"wrong: {value} for {number}"


async def transact(connection, number, steps):
    """`steps` gets an element as soon as something of it has been done."""
    async with connection.transaction():
        steps.append("begin")
        await connection.execute("INSERT INTO log VALUES (%s)", (number,))
        await read(connection, number)


def note_gap(gap, tally):
    tally.longest_gap = max(tally.longest_gap, gap)
    if gap > GAP:
        say(gap_ms=round(gap * 1000), to=time.time())


def say(**what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
