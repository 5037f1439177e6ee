-- Operators that can run anything but C. Those of an extension whose C function is immutable are as good as built in:
-- citext, hstore or pgvector define "=" or "+", and no statement would be left.
select /* by larder */ n.nspname::text, o.oprname::text
  from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
 where (o.oid >= 16384 or n.nspname <> 'pg_catalog')
   and not exists (
     select from pg_catalog.pg_depend e join pg_catalog.pg_extension x on x.oid = e.refobjid,
                 pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
      where e.classid = 'pg_catalog.pg_operator'::regclass and e.objid = o.oid and e.deptype = 'e'
        and p.oid = o.oprcode and l.lanname in ('c', 'internal')
        -- pg_trgm: stable for the sake of its thresholds, which are part of every key.
        and (p.provolatile = 'i' or (p.provolatile = 's' and x.extname = 'pg_trgm')))
