select n.nspname::text, o.oprname::text
  from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
 where o.oid >= 16384 or n.nspname <> 'pg_catalog'
