select /* by larder */ current_database()::text, current_setting('server_version_num')::int4, pg_conf_load_time()::text,
       exists (
         -- Casts that belong to an extension and are written in C convert; they do nothing else. Those that come with
         -- something (a range type brings one to its multirange) depend on it internally.
         select from pg_catalog.pg_cast k
          where k.oid >= 16384
            and not exists (select from pg_catalog.pg_depend d
                             where d.classid = 'pg_catalog.pg_cast'::regclass and d.objid = k.oid and d.deptype = 'i')
            and not (exists (select from pg_catalog.pg_depend d
                              where d.classid = 'pg_catalog.pg_cast'::regclass and d.objid = k.oid and d.deptype = 'e')
                     and (k.castfunc = 0
                          or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
                                      where p.oid = k.castfunc and l.lanname in ('c', 'internal')))))
