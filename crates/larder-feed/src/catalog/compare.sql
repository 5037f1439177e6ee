-- A sample, and a digest of everything in the catalog that can change an answer, its shape, or who may have it.
--
-- Rows of catalogs that only DDL writes are told by (xmin, identity): an update makes a new row version. What ANALYZE
-- and VACUUM write, they write in place, which leaves xmin alone. $1 is an id (xid) that no transaction in progress
-- when the catalog was read lies below; or 2, which stands for all ids. So every row version made since then is at or above it: of the large catalogs
-- only those are digested, and all rows counted, which shows what was deleted. (From pg_attribute rows go with their
-- relation, so there is nothing to count.) pg_class is also written by TRUNCATE, VACUUM FULL and the like, so there the
-- columns that matter are named, and row versions digested apart. Temporary objects are left out: no cached answer depends on another session's.
-- Nothing in it depends on who asks, where, or when, so that several Larders can tell whether they judge alike.
-- bit_xor over 64-bit hashes: rows have identities, so none occurs twice and cancels out.
with /* by larder */ temporary as materialized (
  select array_agg(oid) as oids from pg_catalog.pg_namespace where nspname ~ '^pg_(toast_)?temp_'
), relation as materialized (
  select oid, xmin, relkind,
         hash_record_extended(row(oid, relname, relnamespace, relkind, relpersistence, relowner, relacl, relreplident,
                                  relrowsecurity, relforcerowsecurity, relispartition,
                                  case when relkind = 'v' then reloptions end,
                                  case when relkind = 'm' then relfilenode end), 0) as digest
  from pg_catalog.pg_class where relkind not in ('i', 'I', 't') and relpersistence <> 't'
)
select pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, row(
  extract(epoch from pg_postmaster_start_time()),
  (select bit_xor(digest) from relation),
  (select bit_xor(hash_record_extended(row(a.xmin, a.attrelid, a.attnum), 0))
     from pg_catalog.pg_attribute a join relation c on c.oid = a.attrelid where a.attrelid >= 16384 and a.attnum > 0
                                                                      and age(a.xmin) <= age($1::text::xid)),
  (select bit_xor(hash_record_extended(row(d.xmin, d.oid), 0))
     from pg_catalog.pg_attrdef d join relation c on c.oid = d.adrelid),
  (select bit_xor(hash_record_extended(row(t.xmin, t.oid), 0))
     from pg_catalog.pg_trigger t join relation c on c.oid = t.tgrelid),
  (select bit_xor(hash_record_extended(row(r.xmin, r.oid), 0))
     from pg_catalog.pg_rewrite r join relation c on c.oid = r.ev_class where r.oid >= 16384),
  (select bit_xor(hash_record_extended(row(i.inhrelid, i.inhparent, i.inhdetachpending), 0))
     from pg_catalog.pg_inherits i join relation c on c.oid = i.inhrelid),
  (select bit_xor(hash_record_extended(row(i.indexrelid, i.indrelid), 0))
     from pg_catalog.pg_index i join relation c on c.oid = i.indrelid
    where i.indrelid >= 16384 and (i.indexprs is not null or i.indpred is not null)),
  -- Of what may be a replica identity, every state.
  (select bit_xor(hash_record_extended(row(i.xmin, i.indexrelid, i.indrelid), 0))
     from pg_catalog.pg_index i join relation c on c.oid = i.indrelid
    where i.indrelid >= 16384 and (i.indisprimary or i.indisreplident)),
  (select bit_xor(hash_record_extended(row(p.xmin, p.oid), 0)) from pg_catalog.pg_policy p),
  (select row(count(*), bit_xor(hash_record_extended(row(k.xmin, k.oid), 0)) filter (where age(k.xmin) <= age($1::text::xid)))
     from pg_catalog.pg_constraint k, temporary
    where oids is null or k.connamespace <> all (oids)),
  (select row(count(*), bit_xor(hash_record_extended(row(t.xmin, t.oid), 0)) filter (where age(t.xmin) <= age($1::text::xid)))
     from pg_catalog.pg_type t, temporary
    where oids is null or t.typnamespace <> all (oids)),
  (select row(count(*), bit_xor(hash_record_extended(row(p.xmin, p.oid), 0)) filter (where age(p.xmin) <= age($1::text::xid)))
     from pg_catalog.pg_proc p, temporary
    where oids is null or p.pronamespace <> all (oids)),
  (select bit_xor(hash_record_extended(row(n.xmin, n.oid), 0)) from pg_catalog.pg_namespace n, temporary
    where oids is null or n.oid <> all (oids)),
  (select bit_xor(hash_record_extended(row(xmin, aggfnoid::oid), 0)) from pg_catalog.pg_aggregate where aggfnoid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_operator where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_opclass where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_opfamily where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_amop where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_amproc where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_cast),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_enum),
  (select bit_xor(hash_record_extended(row(xmin, rngtypid), 0)) from pg_catalog.pg_range where rngtypid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_conversion where oid >= 16384),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_transform),
  (select row(count(*), bit_xor(hash_record_extended(row(xmin, oid), 0)) filter (where age(xmin) <= age($1::text::xid)))
     from pg_catalog.pg_collation),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_ts_config),
  (select bit_xor(hash_record_extended(row(xmin, mapcfg, maptokentype, mapseqno), 0)) from pg_catalog.pg_ts_config_map),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_ts_dict),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_ts_parser),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_ts_template),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_language),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_publication),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_extension),
  (select bit_xor(hash_record_extended(row(xmin, oid), 0)) from pg_catalog.pg_database where datname = current_database()),
  (select bit_xor(hash_record_extended(row(oid, rolname, rolsuper, rolinherit, rolcanlogin, rolbypassrls), 0))
     from pg_catalog.pg_roles),
  (select bit_xor(hash_record_extended(row(xmin, roleid, member, grantor), 0)) from pg_catalog.pg_auth_members),
  (select bit_xor(hash_record_extended(row(xmin, setdatabase, setrole), 0)) from pg_catalog.pg_db_role_setting)
)::text, pg_current_wal_flush_lsn()::text,
-- Row versions of what is told by its columns above: a GRANT and the REVOKE after it leave the columns as they were.
row((select bit_xor(hash_record_extended(row(xmin, oid), 0)) from relation),
    (select bit_xor(hash_record_extended(row(i.xmin, i.inhrelid, i.inhparent), 0))
       from pg_catalog.pg_inherits i join relation c on c.oid = i.inhrelid))::text,
-- Apart, because sessions that were there when the settings were read again differ in it by microseconds.
(extract(epoch from pg_conf_load_time()) * 1000000)::int8
