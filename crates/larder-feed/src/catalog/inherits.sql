-- Children and parents, of tables only.
select /* by larder */ i.inhrelid, i.inhparent from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
 where c.relkind not in ('i', 'I')
