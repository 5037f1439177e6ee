-- An ordinary session of psql. Errors do not end it: they are part of what is compared.
\set VERBOSITY verbose
\set SHOW_CONTEXT always
\pset null '(null)'
set client_min_messages = warning;
drop table if exists psql_orders, psql_users;
create table psql_users (id int primary key, name text not null, balance numeric(12, 2) default 0);
create table psql_orders (id int primary key, user_id int references psql_users, amount int);
create view psql_totals as select user_id, sum(amount) from psql_orders group by 1;
insert into psql_users select i, 'user ' || i, i * 1.5 from generate_series(1, 20) i;
insert into psql_orders select i, 1 + i % 20, i * 7 % 13 from generate_series(1, 100) i;
\copy psql_users from stdin
100	copied	1.00
101	copied too	\N
\.
select * from psql_users order by id limit 5;
select * from psql_users order by id limit 5;
select * from psql_totals order by 1;
update psql_users set balance = 7 where id = 1;
select * from psql_users where id = 1;
select name, balance from psql_users where id = 1 \gx
select 'user 3' as wanted \gset
select id from psql_users where name = :'wanted';
select 1 as one \; select 2 as two;
begin;
select balance from psql_users where id = 2;
update psql_users set balance = -1 where id = 2;
select balance from psql_users where id = 2;
savepoint s;
select 1 / 0;
select balance from psql_users where id = 2;
rollback to s;
commit;
select balance from psql_users where id = 2;
begin;
delete from psql_orders;
select count(*) from psql_orders;
rollback;
select count(*) from psql_orders;
begin isolation level serializable read only;
select count(*) from psql_orders;
update psql_users set balance = 0;
rollback;
selekt 1;
select no_such_column from psql_users;
insert into psql_users values (1, 'again');
insert into psql_orders values (1000, 1000);
set datestyle = 'German';
select date '2024-02-29';
reset datestyle;
select date '2024-02-29';
prepare by_id (int) as select name from psql_users where id = $1;
execute by_id (3);
execute by_id (4);
deallocate by_id;
execute by_id (3);
begin;
declare c cursor for select id from psql_orders order by id;
fetch 3 from c;
move 90 from c;
fetch all from c;
commit;
\set FETCH_COUNT 7
select id from psql_users order by id;
\unset FETCH_COUNT
copy (select id, name from psql_users order by id limit 3) to stdout;
copy psql_users from stdin;
not a number
\.
set client_min_messages = notice;
do $$ begin raise notice 'noticed'; raise warning 'warned'; end $$;
explain (costs off) select * from psql_users where id = 1;
\d psql_users
\dt psql_*
show search_path;
drop view psql_totals;
