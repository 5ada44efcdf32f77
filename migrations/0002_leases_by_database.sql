-- Dropping a database looks for the leases that name it (`on delete set null`), and leases are remembered for a day.
create index leases_by_database on leases (database_id);
