"""An application's ordinary day with asyncpg and its default settings. Argument: the connection URL."""

import asyncio
import io
import sys

import asyncpg

from common import FAILURES, READS, RESET, show


async def main(url):
    conn = await asyncpg.connect(url)
    show("server", [list(conn.get_server_version()), conn.get_settings().server_encoding])
    await conn.execute(RESET)
    await reads(conn)
    await writes_are_seen(conn, url)
    await transactions(conn)
    await failures(conn)
    await settings(conn)
    await cursors(conn)
    await copies(conn)
    await pool(url)
    await notifications(conn, url)
    await conn.close()


def rows(records):
    return [list(r.items()) for r in records]


async def reads(conn):
    for turn in range(4):
        for label, statement, parameters in READS:
            show(f"{label} {turn}", rows(await conn.fetch(statement, *parameters)))
        for user in (1, 2, 99):
            show(f"by id {turn}", rows(await conn.fetch("select * from app_users where id = $1", user)))
        statement = await conn.prepare("select name from app_users where id = any($1::int[]) order by id")
        show(f"prepared {turn}", [statement.get_statusmsg(), [a.name for a in statement.get_attributes()],
                                  [p.name for p in statement.get_parameters()], rows(await statement.fetch([1, 3]))])
        show(f"null {turn}", await conn.fetchval("select count(*) from app_orders where note is not distinct from $1",
                                                 None))
        show(f"simple {turn}", await conn.execute("select * from app_users"))


async def writes_are_seen(conn, url):
    other = await asyncpg.connect(url)
    for turn in range(20):
        show(f"update {turn}", await conn.execute("update app_users set balance = $1 where id = 1", turn))
        show(f"own write {turn}", await conn.fetchval("select balance from app_users where id = 1"))
        show(f"other's write {turn}", await other.fetchval("select balance from app_users where id = 1"))
    await conn.execute("alter table app_users add column extra text default 'x'")
    # A cached plan of the driver is out of date now; whatever happens must happen through Larder too.
    for name, connection in (("own", conn), ("other's", other)):
        try:
            show(f"{name} after alter", rows(await connection.fetch("select * from app_users where id = $1", 1)))
        except asyncpg.PostgresError as error:
            show(f"{name} after alter", [error.sqlstate, str(error)])
    await conn.execute("alter table app_users drop column extra")
    await other.close()


async def transactions(conn):
    async with conn.transaction():
        show("read inside", await conn.fetchval("select balance from app_users where id = 2"))
        await conn.execute("update app_users set balance = -1 where id = 2")
        show("own write inside", await conn.fetchval("select balance from app_users where id = 2"))
        try:
            async with conn.transaction():
                await conn.execute("update app_users set balance = -2 where id = 2")
                raise ValueError
        except ValueError:
            pass
        show("after savepoint", await conn.fetchval("select balance from app_users where id = 2"))
    show("committed", await conn.fetchval("select balance from app_users where id = 2"))
    for options in ({"isolation": "serializable", "readonly": True}, {"isolation": "repeatable_read"}):
        async with conn.transaction(**options):
            show(str(options), [await conn.fetchval("select count(*) from app_orders"),
                                await conn.fetchval("show transaction_isolation")])
    try:
        async with conn.transaction():
            await conn.execute("delete from app_orders")
            show("deleted inside", await conn.fetchval("select count(*) from app_orders"))
            raise ValueError
    except ValueError:
        pass
    show("rolled back", await conn.fetchval("select count(*) from app_orders"))


async def failures(conn):
    for turn in range(2):
        for label, statement in FAILURES:
            try:
                await conn.fetch(statement)
            except asyncpg.PostgresError as error:
                show(f"{label} {turn}", [error.sqlstate, str(error), error.severity, error.detail, error.position,
                                         error.table_name, error.constraint_name])
    try:
        await conn.fetch("select pg_sleep(60)", timeout=0.2)
    except (asyncio.TimeoutError, asyncpg.PostgresError) as error:
        show("timeout", type(error).__name__)
    show("after timeout", await conn.fetchval("select count(*) from app_users"))


async def settings(conn):
    for zone in ("UTC", "Asia/Tokyo", "UTC"):
        await conn.execute(f"set timezone to '{zone}'")
        show(f"zone {zone}", rows(await conn.fetch("select tz, tz::text from app_types order by i2 nulls last")))
    await conn.execute("set search_path to pg_catalog, public")
    show("search path", await conn.fetchval("select count(*) from app_users"))
    await conn.reset()
    show("reset", await conn.fetchval("show search_path"))


async def cursors(conn):
    async with conn.transaction():
        cursor = await conn.cursor("select id from app_orders order by id")
        show("fetch", [rows(await cursor.fetch(3)), rows([await cursor.fetchrow()])])
        await cursor.forward(90)
        show("rest", rows(await cursor.fetch(100)))
        show("iterated", [r["id"] async for r in conn.cursor("select id from app_orders order by id", prefetch=7)])
    await conn.executemany("insert into app_orders (id, user_id, amount) values ($1, $2, $3)",
                           [(2000 + i, 1, i) for i in range(10)])
    show("executemany", await conn.fetchval("select count(*) from app_orders"))


async def copies(conn):
    out = io.BytesIO()
    show("copy", await conn.copy_from_query("select id, name from app_users order by id limit $1", 3, output=out))
    show("copy out", out.getvalue())
    records = [(3000 + i, 1, i) for i in range(1000)]
    show("copy in", await conn.copy_records_to_table("app_orders", records=records, columns=["id", "user_id", "amount"]))
    show("copied in", rows(await conn.fetch("select count(*), sum(amount) from app_orders")))
    show("cleaned", await conn.execute("delete from app_orders where id >= 2000"))


async def pool(url):
    async with asyncpg.create_pool(url, min_size=4, max_size=4) as connections:
        async def one(i):
            async with connections.acquire() as conn:
                return await conn.fetchval("select name from app_users where id = $1", 1 + i % 20)
        show("pool", await asyncio.gather(*(one(i) for i in range(60))))


async def notifications(conn, url):
    notices, news, both = [], [], asyncio.Event()

    def listener(_connection, _pid, channel, payload):
        news.append((channel, payload))
        if len(news) == 2:
            both.set()

    conn.add_log_listener(lambda _connection, notice: notices.append((notice.severity, notice.message)))
    await conn.execute("do $$ begin raise notice 'noticed'; end $$")
    await conn.add_listener("news", listener)
    other = await asyncpg.connect(url)
    await other.execute("notify news, 'first'")
    await other.execute("select pg_notify('news', 'second')")
    await other.close()
    await asyncio.wait_for(both.wait(), 10)
    show("notices", notices)
    show("notifications", news)


asyncio.run(main(sys.argv[1]))
