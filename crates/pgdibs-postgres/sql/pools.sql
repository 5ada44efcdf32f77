-- The columns of a pool; its readers add their conditions.
select name, warm, max, spares, owner, strategy, extensions, roles, keep_templates, template_max_age_seconds, login, connection_limit,
       sourced, dropping
from pools
