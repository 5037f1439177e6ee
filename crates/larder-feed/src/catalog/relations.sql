-- Every relation but indexes, TOAST and temporary ones.
with /* by larder */ extension_member as materialized (
  select classid, objid from pg_catalog.pg_depend where deptype = 'e'
), user_code as materialized (
  -- What may run code that is not PostgreSQL's or an extension's C: objects that an expression can depend on.
  select 'pg_catalog.pg_proc'::regclass::oid as classid, p.oid as objid
    from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
   where p.oid >= 16384
     and not (l.lanname = 'c'
              and exists (select from extension_member e
                           where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid))
  union all
  select x.classid, x.oid from (
         select 'pg_catalog.pg_operator'::regclass::oid, oid from pg_catalog.pg_operator
   union all select 'pg_catalog.pg_opclass'::regclass::oid, oid from pg_catalog.pg_opclass
   union all select 'pg_catalog.pg_opfamily'::regclass::oid, oid from pg_catalog.pg_opfamily
   union all select 'pg_catalog.pg_cast'::regclass::oid, oid from pg_catalog.pg_cast
   union all select 'pg_catalog.pg_language'::regclass::oid, oid from pg_catalog.pg_language
  ) as x (classid, oid)
   where x.oid >= 16384
     and not exists (select from extension_member e where e.classid = x.classid and e.objid = x.oid)
), harmless_type as materialized (
  -- Reading or writing a value of such a type runs no user code. Arrays: by their elements, below.
  select t.oid, t.typarray from pg_catalog.pg_type t
   where t.oid < 16384 or t.typtype = 'e'
      or exists (select from extension_member e where e.classid = 'pg_catalog.pg_type'::regclass and e.objid = t.oid)
  union all
  select t.oid, t.typarray from pg_catalog.pg_type t
   where t.oid >= 16384 and t.typtype = 'd' and t.typdefaultbin is null
     and (t.typbasetype < 16384
          or exists (select from extension_member e
                      where e.classid = 'pg_catalog.pg_type'::regclass and e.objid = t.typbasetype))
     and not exists (
       select from pg_catalog.pg_constraint k join pg_catalog.pg_depend d
           on d.classid = 'pg_catalog.pg_constraint'::regclass and d.objid = k.oid
         join user_code u on u.classid = d.refclassid and u.objid = d.refobjid
        where k.contypid = t.oid)
), harmless as materialized (
  select oid from harmless_type union select typarray from harmless_type where typarray <> 0
), expression as (
  -- Whose expressions run when a row of a relation is written: (catalog, object, relation).
            select 'pg_catalog.pg_attrdef'::regclass::oid as classid, oid as objid, adrelid as relid from pg_catalog.pg_attrdef
  union all select 'pg_catalog.pg_constraint'::regclass::oid, oid, conrelid from pg_catalog.pg_constraint where conrelid <> 0
  union all select 'pg_catalog.pg_class'::regclass::oid, indexrelid, indrelid from pg_catalog.pg_index where indrelid >= 16384
  union all select 'pg_catalog.pg_class'::regclass::oid, partrelid, partrelid from pg_catalog.pg_partitioned_table
  union all select 'pg_catalog.pg_policy'::regclass::oid, oid, polrelid from pg_catalog.pg_policy
), effects as materialized (
  -- Relations a write to which can have effects elsewhere.
            select tgrelid as relid from pg_catalog.pg_trigger where not tgisinternal or tgfoid >= 16384
  union all select ev_class from pg_catalog.pg_rewrite where ev_class >= 16384
  union all select confrelid from pg_catalog.pg_constraint
             where contype = 'f' and (confupdtype in ('c', 'n', 'd') or confdeltype in ('c', 'n', 'd'))
  union all select e.relid from expression e
              join pg_catalog.pg_depend d on d.classid = e.classid and d.objid = e.objid
              join user_code u on u.classid = d.refclassid and u.objid = d.refobjid
  union all select e.relid from expression e
              join pg_catalog.pg_depend d on d.classid = e.classid and d.objid = e.objid
               and d.refclassid = 'pg_catalog.pg_type'::regclass
             where not exists (select from harmless h where h.oid = d.refobjid)
  union all select a.attrelid from pg_catalog.pg_attribute a
             where a.attrelid >= 16384 and a.attnum > 0 and a.atttypid >= 16384 and not a.attisdropped
               and not exists (select from harmless h where h.oid = a.atttypid)
), identity_index as materialized (
  -- Columns that are only included in it do not count.
  select i.indrelid, (i.indkey::int2[])[0:i.indnkeyatts - 1] as attnums
    from pg_catalog.pg_index i join pg_catalog.pg_class r on r.oid = i.indrelid
   where i.indisvalid and i.indislive and i.indisunique and i.indimmediate and i.indpred is null and i.indexprs is null
     and ((r.relreplident = 'd' and i.indisprimary) or (r.relreplident = 'i' and i.indisreplident))
)
select c.oid, n.nspname::text, c.relname::text,
       convert_to(n.nspname::text, getdatabaseencoding()::text), convert_to(c.relname::text, getdatabaseencoding()::text),
       c.relkind, c.relpersistence, c.relrowsecurity,
       exists (select from pg_catalog.pg_rewrite r
                where r.ev_class = c.oid and not (r.ev_type = '1' and r.rulename = '_RETURN' and c.relkind in ('v', 'm'))),
       n.nspname in ('pg_catalog', 'information_schema', 'pg_toast'),
       c.relkind not in ('r', 'p') or c.oid in (select relid from effects),
       case when c.relkind in ('v', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
            then pg_get_viewdef(c.oid) end,
       a.names, a.types, p.policies, a.spelled, a.told_apart, a.in_identity, c.relreplident = 'f', a.generated
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join (select t.attrelid, array_agg(t.attname::text order by t.attnum) as names, array_agg(t.atttypid order by t.attnum) as types,
                    array_agg(convert_to(t.attname::text, getdatabaseencoding()::text) order by t.attnum) as spelled,
                    -- Not by a collation of its own, and in the log (what is generated when it is read is not).
                    array_agg(t.attgenerated <> 'v' and coalesce(l.collisdeterministic, true) order by t.attnum) as told_apart,
                    array_agg(r.relreplident = 'f' or coalesce(t.attnum = any (k.attnums), false) order by t.attnum) as in_identity,
                    array_agg(t.attgenerated <> '' order by t.attnum) as generated
               from pg_catalog.pg_attribute t join pg_catalog.pg_class r on r.oid = t.attrelid
               left join pg_catalog.pg_collation l on l.oid = t.attcollation
               left join identity_index k on k.indrelid = t.attrelid
              where t.attnum > 0 and not t.attisdropped group by t.attrelid) a on a.attrelid = c.oid
  left join (select polrelid, array_agg(pg_get_expr(polqual, polrelid)) as policies
               from pg_catalog.pg_policy where polcmd in ('*', 'r') and polqual is not null group by polrelid) p
    on p.polrelid = c.oid
 where c.relkind not in ('i', 'I', 't') and c.relpersistence <> 't'
