"""Printing answers so that two runs can be compared line by line."""

import datetime
import decimal
import ipaddress
import uuid


def canonical(value):
    """One spelling for one value; types are kept apart (1 is not 1.0 is not '1')."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{canonical(k)}: {canonical(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(canonical(v) for v in value) + "]"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes " + bytes(value).hex()
    if isinstance(value, datetime.datetime):
        return f"datetime {value.isoformat()}"
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)):
        return f"{type(value).__name__} {value}"
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv4Network)):
        return f"inet {value}"
    return f"{type(value).__name__} {value!r}"


def show(label, value):
    print(f"{label}: {canonical(value)}", flush=True)


# What all scripts do to begin with: they find the same state whenever they run.
RESET = """
drop table if exists app_orders, app_users, app_types;
create table app_users (id int primary key, name text not null, email text unique, balance numeric(12, 2) default 0);
create table app_orders (id int primary key, user_id int references app_users, amount int, note text);
create table app_types (
    i2 int2, i4 int4, i8 int8, f8 float8, n numeric, b bool, t text, c varchar(5), by bytea, j json, jb jsonb, u uuid,
    d date, ts timestamp, tz timestamptz, tm time, iv interval, ia int[], ta text[]);
insert into app_users select i, 'user ' || i, 'user' || i || '@example.org', i * 1.5 from generate_series(1, 20) i;
insert into app_orders select i, 1 + i % 20, i * 7 % 13, nullif('note ' || i % 3, 'note 0') from generate_series(1, 100) i;
insert into app_types values (
    1, 2, 9007199254740993, 1.5e-300, 123456789.123456789, true, E'it''s\\n\\u00fc', 'abc', '\\x00ff10', '{"a":  1}',
    '{"b": [1, null, "x"]}', '00000000-0000-4000-8000-000000000001', '2024-02-29', '2024-02-29 12:34:56.789',
    '2024-02-29 12:34:56.789+02', '23:59:59', '1 day 02:03:04', '{1,NULL,3}', '{"a b",NULL,"c,d"}');
insert into app_types default values;
"""

# Asked for again and again, as applications do: label, statement, and parameters where there are any.
READS = [
    ("constant", "select 1 as one, null as nothing, 'x' as x", []),
    ("all types", "select * from app_types order by i2 nulls last", []),
    ("join", "select u.name, o.id, o.note from app_users u join app_orders o on o.user_id = u.id where o.amount > 10 "
             "order by o.id", []),
    ("aggregate", "select user_id, count(*), sum(amount), avg(amount) from app_orders group by user_id order by 1", []),
    ("empty", "select * from app_users where false", []),
    ("set", "select name from app_users where id in (3, 1, 2) order by id desc limit 2 offset 1", []),
    ("subquery", "select id from app_users u where exists (select from app_orders o where o.user_id = u.id and "
                 "o.amount = 0) order by id", []),
    ("window", "select id, rank() over (order by amount desc, id) from app_orders order by id limit 5", []),
    ("cte", "with big as (select * from app_orders where amount >= 12) select count(*), max(id) from big", []),
    ("unstable", "select count(*) > 0 from app_users where now() is not null and random() >= 0", []),
]

# Statements that fail, each as its own transaction.
FAILURES = [
    ("syntax", "selekt 1"),
    ("no table", "select * from no_such_table"),
    ("no column", "select no_such_column from app_users"),
    ("division", "select 1 / (id - id) from app_users"),
    ("unique", "insert into app_users (id, name) values (1, 'again')"),
    ("foreign key", "insert into app_orders (id, user_id) values (1000, 1000)"),
    ("too long", "insert into app_types (c) values ('too long for it')"),
]
