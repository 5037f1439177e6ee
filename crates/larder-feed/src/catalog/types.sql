select t.oid, n.nspname::text, t.typname::text, t.typtype, t.typcategory,
       coalesce((select element.oid from pg_catalog.pg_type element where element.oid = t.typelem and element.typarray = t.oid), 0::oid),
       exists (select from pg_catalog.pg_depend e
                where e.classid = 'pg_catalog.pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where n.nspname !~ '^pg_(toast_)?temp_'
