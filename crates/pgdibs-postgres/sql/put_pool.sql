-- Creates a pool, or sets it to all of these settings. $13: whether a daemon builds its templates, or null to leave that as it is.
insert into pools as p (name, warm, max, spares, owner, strategy, extensions, roles, keep_templates,
                        template_max_age_seconds, login, connection_limit, sourced)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13, false))
on conflict (name) do update set warm = $2, max = $3, spares = $4, owner = $5, strategy = $6, extensions = $7,
    roles = $8, keep_templates = $9, template_max_age_seconds = $10, login = $11, connection_limit = $12,
    sourced = coalesce($13, p.sourced), dropping = false
