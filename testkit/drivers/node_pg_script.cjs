// An application's ordinary day with Node's pg and its default settings. Argument: the connection URL.
'use strict'

const { Client, Pool } = require('pg')

const RESET = `
drop table if exists app_orders, app_users, app_types;
create table app_users (id int primary key, name text not null, email text unique, balance numeric(12, 2) default 0);
create table app_orders (id int primary key, user_id int references app_users, amount int, note text);
create table app_types (i4 int4, i8 int8, f8 float8, n numeric, b bool, t text, by bytea, jb jsonb, tz timestamptz,
    iv interval, ia int[], ta text[]);
insert into app_users select i, 'user ' || i, 'user' || i || '@example.org', i * 1.5 from generate_series(1, 20) i;
insert into app_orders select i, 1 + i % 20, i * 7 % 13, nullif('note ' || i % 3, 'note 0') from generate_series(1, 100) i;
insert into app_types values (2, 9007199254740993, 1.5e-300, 123456789.123456789, true, E'it''s\\n\\u00fc', '\\x00ff10',
    '{"b": [1, null, "x"]}', '2024-02-29 12:34:56.789+02', '1 day 02:03:04', '{1,NULL,3}', '{"a b",NULL,"c,d"}');
insert into app_types default values;
`

const READS = [
  'select 1 as one, null as nothing',
  'select * from app_types order by i4 nulls last',
  'select u.name, o.id, o.note from app_users u join app_orders o on o.user_id = u.id where o.amount > 10 order by o.id',
  'select user_id, count(*), sum(amount) from app_orders group by user_id order by 1',
  'select * from app_users where false',
  'select id, rank() over (order by amount desc, id) from app_orders order by id limit 5',
]

const FAILURES = [
  'selekt 1',
  'select * from no_such_table',
  'select 1 / (id - id) from app_users',
  "insert into app_users (id, name) values (1, 'again')",
  'insert into app_orders (id, user_id) values (1000, 1000)',
]

// The order of keys is that of the code, so the same answer has the same text.
const show = (label, value) => console.log(`${label}: ${JSON.stringify(value)}`)
const whole = ({ command, rowCount, fields, rows }) => ({
  command,
  rowCount,
  fields: fields.map(({ name, dataTypeID, format }) => [name, dataTypeID, format]),
  rows,
})
const failure = ({ code, message, severity, detail, position, table, constraint }) =>
  ({ code, message, severity, detail, position, table, constraint })

async function reads(client) {
  for (let turn = 0; turn < 4; turn++) {
    for (const sql of READS) show(`simple ${turn}`, whole(await client.query(sql)))
    for (const id of [1, 2, 99]) {
      show(`by id ${turn}`, whole(await client.query('select * from app_users where id = $1', [id])))
      const named = { name: 'user-by-id', text: 'select * from app_users where id = $1', values: [id] }
      show(`named ${turn}`, whole(await client.query(named)))
    }
    show(`arrays ${turn}`, await client.query({ text: 'select id, name from app_users where id < $1', values: [4],
      rowMode: 'array' }).then((r) => r.rows))
    show(`any ${turn}`, (await client.query('select name from app_users where id = any($1) order by id', [[1, 3]])).rows)
    show(`null ${turn}`, (await client.query('select count(*) from app_orders where note is not distinct from $1',
      [null])).rows)
  }
  show('several', (await client.query('select 1 as a; select 2 as b; select id from app_users where id < 3 order by 1'))
    .map(whole))
}

async function writesAreSeen(client, url) {
  const other = new Client({ connectionString: url })
  await other.connect()
  for (let turn = 0; turn < 20; turn++) {
    show(`update ${turn}`, whole(await client.query('update app_users set balance = $1 where id = 1', [turn])))
    show(`own write ${turn}`, (await client.query('select balance from app_users where id = 1')).rows)
    show(`other's write ${turn}`, (await other.query('select balance from app_users where id = $1', [1])).rows)
  }
  show('returning', whole(await client.query("insert into app_users (id, name) values (500, 'new') returning *")))
  show('inserted', (await other.query('select count(*) from app_users')).rows)
  await client.query('delete from app_users where id = 500')
  await other.end()
}

async function transactions(client) {
  const balance = async (label) => show(label, (await client.query('select balance from app_users where id = 2')).rows)
  await client.query('begin')
  await balance('read inside')
  await client.query('update app_users set balance = -1 where id = 2')
  await balance('own write inside')
  await client.query('savepoint s')
  await client.query('update app_users set balance = -2 where id = 2')
  await client.query('rollback to s')
  await balance('after savepoint')
  await client.query('commit')
  await balance('committed')
  await client.query('begin')
  await client.query('delete from app_orders')
  show('deleted inside', (await client.query('select count(*) from app_orders')).rows)
  await client.query('rollback')
  show('rolled back', (await client.query('select count(*) from app_orders')).rows)
  await client.query('begin')
  await client.query('select 1 / 0').catch((e) => show('error inside', failure(e)))
  await client.query('select 1').catch((e) => show('failed transaction', failure(e)))
  show('end', whole(await client.query('commit')))
}

async function failures(client) {
  for (let turn = 0; turn < 2; turn++) {
    for (const sql of FAILURES) {
      await client.query(sql).catch((e) => show(`simple failure ${turn}`, failure(e)))
      await client.query({ text: sql, values: [], queryMode: 'extended' }).catch((e) => show(`failure ${turn}`, failure(e)))
    }
    await client.query('select * from app_users where id = $1', ['no number'])
      .catch((e) => show(`bad parameter ${turn}`, failure(e)))
  }
}

async function pools(url) {
  const pool = new Pool({ connectionString: url, max: 4 })
  const one = (i) => pool.query('select name from app_users where id = $1', [1 + i % 20]).then((r) => r.rows[0].name)
  show('pool', await Promise.all(Array.from({ length: 60 }, (_, i) => one(i))))
  await pool.end()
}

async function notifications(client, url) {
  const notices = []
  client.on('notice', ({ severity, message }) => notices.push([severity, message]))
  await client.query("do $$ begin raise notice 'noticed'; end $$")
  const news = new Promise((resolve) => {
    const heard = []
    client.on('notification', ({ channel, payload }) => heard.push([channel, payload]) === 2 && resolve(heard))
  })
  await client.query('listen news')
  const other = new Client({ connectionString: url })
  await other.connect()
  await other.query("notify news, 'first'")
  await other.query("select pg_notify('news', 'second')")
  await other.end()
  show('notices', notices)
  show('notifications', await news)
}

async function main(url) {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(RESET)
  await reads(client)
  await writesAreSeen(client, url)
  await transactions(client)
  await failures(client)
  await pools(url)
  await notifications(client, url)
  await client.end()
}

main(process.argv[2]).catch((error) => {
  console.error(error)
  process.exit(1)
})
