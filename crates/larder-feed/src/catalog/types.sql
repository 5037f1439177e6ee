select /* by larder */ t.oid, n.nspname::text, t.typname::text, t.typtype, t.typcategory,
       coalesce((select element.oid from pg_catalog.pg_type element where element.oid = t.typelem and element.typarray = t.oid), 0::oid),
       exists (select from pg_catalog.pg_depend e
                where e.classid = 'pg_catalog.pg_type'::regclass and e.objid = t.oid and e.deptype = 'e'),
       -- What its values consist of, if nothing but the functions of those types runs when one is read or written.
       case when t.typtype = 'c'
            then (select coalesce(array_agg(a.atttypid), '{}') from pg_catalog.pg_attribute a
                   where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
            when t.typtype in ('r', 'm')
            then (select array[r.rngsubtype] from pg_catalog.pg_range r
                   where t.oid in (r.rngtypid, r.rngmultitypid) and r.rngcanonical = 0 and r.rngsubopc < 16384) end,
       t.typbasetype
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where n.nspname !~ '^pg_(toast_)?temp_'
