-- Everything that the feed needs and that an ordinary role may see.
select /* by larder */ current_setting('server_version_num')::int4,
       pg_is_in_recovery(),
       current_setting('wal_level'),
       -- Amazon's services grant the privilege by membership.
       (select rolreplication or rolsuper or exists (
                   select from pg_roles as provider
                   where provider.rolname = 'rds_replication' and pg_has_role(provider.oid, 'member'))
        from pg_roles where rolname = current_user),
       current_setting('max_replication_slots')::int8,
       (select count(*) from pg_replication_slots),
       current_setting('max_wal_senders')::int8,
       (select count(*) from pg_stat_get_wal_senders()),
       (select oid from pg_database where datname = current_database()),
       (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8
