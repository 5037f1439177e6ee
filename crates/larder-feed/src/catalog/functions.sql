-- Overloads of one name in one schema are judged by the worst of them.
select n.nspname::text, p.proname::text,
       max(case p.provolatile when 'i' then 0 when 's' then 1 else 2 end)::int4,
       bool_and(n.nspname = 'pg_catalog' and p.oid < 16384 and l.lanname in ('internal', 'c', 'sql')),
       bool_and(l.lanname = 'c' and e.objid is not null),
       bool_or(p.prokind in ('a', 'w'))
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
 where n.nspname !~ '^pg_temp_'
 group by 1, 2
