"""The pytest plugin's implementation. `pgdibs.pytest_plugin` imports it only when the plugin has something to do.

Its modules in layers; a module imports from its own line (without circles) and from the lines above it alone, and
scripts/import-circles.py checks that there are no circles:

1. `ini`, `env_files`, `variables`, `process_owner`, `termination`, `timeline`, `footprint`, `inputs`: files, variables, signals
   and times; none knows another.
2. `settings`: the settings of a run.
3. `databases`: the leases of a process. `databases_of(config)` is the interface for code that builds on the plugin.
4. `connection_guard`, `failures`, `django_environment`, `django_databases`.
5. `environment`, `template`: which variables a run sets, and the templates that it needs.
6. `share`, `run_times`: what a process tells about itself, and what all of them add up to.
7. `report_page`, `run_report`, `summary`, `worker`, `controller`: the reports, and the hooks of each kind of process.
8. `django_fixtures`, `django_setup_check`, `django`: what pytest-django projects get.
9. `configure`: chooses and registers the hooks.

`databases.obtain()` leases one database per alias, all or none, and sets the variables of `pgdibs_env`; repeated calls return the
same leases. The plugin calls it before pytest imports conftest.py if there are variables to set, otherwise when a test first asks
for a database. `pgdibs.pytest_plugin.Hooks` declares the hooks.
"""
