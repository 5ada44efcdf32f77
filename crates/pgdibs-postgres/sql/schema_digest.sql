-- A digest of what a copy of this database would have besides its rows: every system catalog that describes objects, without temporary ones.
-- Left out are columns that change without a change of the schema: statistics, file numbers, and flags that VACUUM clears. A sequence's
-- value is in the sequence. Publications, subscriptions, event triggers and foreign servers are not copied.
with hidden as (select oid from pg_namespace where nspname ~ '^pg_(toast|temp_)'),
     rel as (select oid from pg_class where oid >= 16384 and relnamespace not in (select oid from hidden)),
     objects as (
    select 'namespace' as kind, n::text as row from pg_namespace n where oid not in (select oid from hidden)
    union all select 'class', (to_jsonb(c) - array['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'reltoastrelid',
        'relhasindex', 'relhasrules', 'relhastriggers', 'relhassubclass', 'relispopulated', 'relrewrite', 'relfrozenxid', 'relminmxid'])::text
        from pg_class c where oid in (select oid from rel)
    union all select 'class acl', oid || relacl::text from pg_class where oid < 16384 and relacl is not null
    union all select 'attribute', a::text from pg_attribute a where attrelid in (select oid from rel)
    union all select 'attrdef', d::text from pg_attrdef d where adrelid in (select oid from rel)
    union all select 'constraint', c::text from pg_constraint c where oid >= 16384 and connamespace not in (select oid from hidden)
    union all select 'index', (to_jsonb(i) - array['indcheckxmin', 'indisready', 'indislive'])::text
        from pg_index i where indexrelid in (select oid from rel)
    union all select 'inherits', i::text from pg_inherits i where inhrelid in (select oid from rel)
    union all select 'partitioned', p::text from pg_partitioned_table p where partrelid in (select oid from rel)
    union all select 'sequence', s::text from pg_sequence s where seqrelid in (select oid from rel)
    union all select 'rewrite', r::text from pg_rewrite r where ev_class in (select oid from rel)
    union all select 'trigger', t::text from pg_trigger t where tgrelid in (select oid from rel)
    union all select 'policy', p::text from pg_policy p
    union all select 'statistics', s::text from pg_statistic_ext s
    union all select 'type', t::text from pg_type t where oid >= 16384 and typnamespace not in (select oid from hidden)
    union all select 'enum', e::text from pg_enum e
    union all select 'range', r::text from pg_range r where rngtypid >= 16384
    union all select 'proc', p::text from pg_proc p where oid >= 16384 and pronamespace not in (select oid from hidden)
    union all select 'proc acl', oid || proacl::text from pg_proc where oid < 16384 and proacl is not null
    union all select 'aggregate', a::text from pg_aggregate a where aggfnoid >= 16384
    union all select 'operator', o::text from pg_operator o where oid >= 16384
    union all select 'opclass', o::text from pg_opclass o where oid >= 16384
    union all select 'opfamily', o::text from pg_opfamily o where oid >= 16384
    union all select 'amop', o::text from pg_amop o where oid >= 16384
    union all select 'amproc', o::text from pg_amproc o where oid >= 16384
    union all select 'am', a::text from pg_am a where oid >= 16384
    union all select 'cast', c::text from pg_cast c where oid >= 16384
    union all select 'conversion', c::text from pg_conversion c where oid >= 16384
    union all select 'collation', c::text from pg_collation c where oid >= 16384
    union all select 'transform', t::text from pg_transform t
    union all select 'language', l::text from pg_language l
    union all select 'extension', e::text from pg_extension e
    union all select 'default acl', a::text from pg_default_acl a
    union all select 'ts config', c::text from pg_ts_config c where oid >= 16384
    union all select 'ts map', m::text from pg_ts_config_map m where mapcfg >= 16384
    union all select 'ts dict', d::text from pg_ts_dict d where oid >= 16384
    union all select 'ts parser', p::text from pg_ts_parser p where oid >= 16384
    union all select 'ts template', t::text from pg_ts_template t where oid >= 16384
    union all select 'description', d::text from pg_description d where objoid >= 16384 or classoid = 'pg_namespace'::regclass
    union all select 'label', s::text from pg_seclabel s)
select md5(string_agg(kind || ' ' || number || ' ' || digest, ', ' order by kind))
from (select kind, count(*) as number, sum(hashtextextended(row, 0)) as digest from objects group by kind) digests
