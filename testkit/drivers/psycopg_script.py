"""An application's ordinary day with psycopg 3 and its default settings. Argument: the connection URL."""

import sys

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from common import FAILURES, READS, RESET, show


def main(url):
    with psycopg.connect(url, autocommit=True) as conn:
        show("server", [conn.info.server_version, conn.info.parameter_status("client_encoding")])
        conn.execute(RESET)
        reads(conn)
        writes_are_seen(conn, url)
        transactions(conn)
        failures(conn)
        settings(conn)
        cursors(conn)
        copies(conn)
        pipelines(conn)
        notifications(conn, url)


def reads(conn):
    # Six times: psycopg prepares a statement at its fifth execution.
    for turn in range(6):
        for label, statement, parameters in READS:
            cursor = conn.execute(statement, parameters or None)
            columns = [(c.name, c.type_code, c.internal_size) for c in cursor.description]
            show(f"{label} {turn}", [cursor.statusmessage, columns, cursor.fetchall()])
        for user in (1, 2, 99):
            show(f"by id {turn}", conn.execute("select * from app_users where id = %s", [user]).fetchall())
        show(f"array {turn}", conn.execute("select name from app_users where id = any(%s) order by id",
                                           [[1, 3]]).fetchall())
        show(f"null {turn}", conn.execute("select count(*) from app_orders where note is not distinct from %s",
                                          [None]).fetchall())
        show(f"binary {turn}", conn.cursor(binary=True).execute("select * from app_types order by i2").fetchall())
        show(f"dict {turn}", conn.cursor(row_factory=dict_row).execute("select id, name from app_users where id = 4")
             .fetchone())


def writes_are_seen(conn, url):
    with psycopg.connect(url, autocommit=True) as other:
        for turn in range(20):
            conn.execute("update app_users set balance = %s where id = 1", [turn])
            show(f"own write {turn}", conn.execute("select balance from app_users where id = 1").fetchone())
            show(f"other's write {turn}", other.execute("select balance from app_users where id = 1").fetchone())
        show("returning", conn.execute("insert into app_users (id, name) values (500, 'new') returning *").fetchall())
        show("inserted", other.execute("select count(*) from app_users").fetchone())
        show("deleted", conn.execute("delete from app_users where id = 500").rowcount)
        show("count", other.execute("select count(*) from app_users").fetchone())


def transactions(conn):
    with conn.transaction():
        show("read in transaction", conn.execute("select balance from app_users where id = 2").fetchone())
        conn.execute("update app_users set balance = -1 where id = 2")
        show("own write inside", conn.execute("select balance from app_users where id = 2").fetchone())
        try:
            with conn.transaction():
                conn.execute("update app_users set balance = -2 where id = 2")
                raise ValueError
        except ValueError:
            pass
        show("after savepoint", conn.execute("select balance from app_users where id = 2").fetchone())
    show("committed", conn.execute("select balance from app_users where id = 2").fetchone())
    try:
        with conn.transaction():
            conn.execute("delete from app_orders")
            show("deleted inside", conn.execute("select count(*) from app_orders").fetchone())
            raise ValueError
    except ValueError:
        pass
    show("rolled back", conn.execute("select count(*) from app_orders").fetchone())
    try:
        with conn.transaction():
            try:
                conn.execute("select 1 / 0")
            except psycopg.Error as error:
                show("error inside", [error.sqlstate, str(conn.info.transaction_status)])
            conn.execute("select 1")
    except psycopg.Error as error:
        show("failed transaction", [error.sqlstate, str(error)])
    show("isolation", conn.execute("show transaction isolation level").fetchone())


def failures(conn):
    for turn in range(2):
        for label, statement in FAILURES:
            try:
                conn.execute(statement)
            except psycopg.Error as error:
                d = error.diag
                show(f"{label} {turn}", [error.sqlstate, str(error), d.severity, d.message_detail, d.statement_position,
                                         d.table_name, d.constraint_name])
    try:
        conn.execute("select * from app_users where id = %s", ["no number"])
    except psycopg.Error as error:
        show("bad parameter", [error.sqlstate, str(error)])


def settings(conn):
    statement = "select ts, tz, tz::text, f8 from app_types order by i2 nulls last"
    for zone in ("UTC", "Asia/Tokyo", "UTC"):
        conn.execute(sql.SQL("set timezone to {}").format(zone))
        show(f"zone {zone}", conn.execute(statement).fetchall())
    conn.execute("set search_path to pg_catalog, public")
    show("search path", conn.execute("select count(*) from app_users").fetchone())
    conn.execute("reset search_path")
    conn.execute("set datestyle to 'German'")
    show("datestyle", conn.execute("select d::text from app_types order by i2").fetchone())
    conn.execute("reset all")
    show("reset", conn.execute("select d::text from app_types order by i2").fetchone())


def cursors(conn):
    with conn.transaction():
        with conn.cursor(name="portal") as cursor:
            cursor.execute("select id from app_orders order by id")
            show("fetch", [cursor.fetchmany(3), cursor.fetchmany(2)])
            cursor.scroll(90)
            show("rest", cursor.fetchall())
    cursor = conn.cursor()
    cursor.executemany("insert into app_orders (id, user_id, amount) values (%s, %s, %s)",
                       [(2000 + i, 1, i) for i in range(10)])
    show("executemany", [cursor.rowcount, conn.execute("select count(*) from app_orders").fetchone()])
    cursor.execute("select 1; select 2, 3; select id from app_users where id < 3 order by 1")
    results = [cursor.fetchall()]
    while cursor.nextset():
        results.append(cursor.fetchall())
    show("several results", results)


def copies(conn):
    with conn.cursor() as cursor:
        with cursor.copy("copy (select id, name from app_users order by id limit 3) to stdout") as copy:
            show("copy out", b"".join(copy))
        with cursor.copy("copy app_orders (id, user_id, amount) from stdin") as copy:
            for i in range(1000):
                copy.write_row((3000 + i, 1, i))
        show("copied in", cursor.execute("select count(*), sum(amount) from app_orders").fetchone())
        try:
            with cursor.copy("copy app_orders (id) from stdin") as copy:
                copy.write("not a number\n")
        except psycopg.Error as error:
            show("bad copy", [error.sqlstate, str(error)])
    conn.execute("delete from app_orders where id >= 2000")


def pipelines(conn):
    with conn.pipeline():
        answers = [conn.execute("select name from app_users where id = %s", [i]) for i in range(1, 6)]
        conn.execute("update app_users set name = 'piped' where id = 3")
        answers += [conn.execute("select name from app_users where id = %s", [i]) for i in range(1, 6)]
        show("pipeline", [a.fetchall() for a in answers])
    try:
        with conn.pipeline():
            conn.execute("select 1")
            conn.execute("select 1 / 0")
            conn.execute("select 2")
    except psycopg.Error as error:
        show("failing pipeline", [error.sqlstate, str(error)])
    show("after it", conn.execute("select 3").fetchone())


def notifications(conn, url):
    notices = []
    conn.add_notice_handler(lambda d: notices.append((d.severity, d.message_primary)))
    conn.execute("do $$ begin raise notice 'noticed'; end $$")
    conn.execute("drop table if exists no_such_table")
    show("notices", notices)
    conn.execute("listen news")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("notify news, 'first'")
        other.execute("select pg_notify('news', 'second')")
    show("notifications", [(n.channel, n.payload) for n in conn.notifies(timeout=10, stop_after=2)])


main(sys.argv[1])
