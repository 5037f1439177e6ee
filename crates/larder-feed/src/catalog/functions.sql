-- Overloads of one name in one schema are judged by the worst of them.
select /* by larder */ n.nspname::text, p.proname::text,
       max(case p.provolatile when 'i' then 0 when 's' then 1 else 2 end)::int4,
       bool_and(n.nspname = 'pg_catalog' and p.oid < 16384 and l.lanname in ('internal', 'c', 'sql')),
       bool_and(case l.lanname
                when 'c' then x.oid is not null
                when 'internal' then x.oid is not null or i.objid is not null
                -- Written in SQL and known to be what they are declared to be.
                when 'sql' then x.extname in ('citext', 'earthdistance') and p.provolatile = 'i'
                end is true),
       bool_or(p.prokind in ('a', 'w'))
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join pg_catalog.pg_depend e on e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
  left join pg_catalog.pg_extension x on x.oid = e.refobjid
  -- Constructors that come with a range type.
  left join pg_catalog.pg_depend i on i.classid = 'pg_catalog.pg_proc'::regclass and i.objid = p.oid and i.deptype = 'i'
 where n.nspname !~ '^pg_temp_'
 group by 1, 2
