-- The SCRAM verifier of a login, as it was made with: a holder may change its login's password, and a reset sets it back.
alter table databases add column verifier text;
alter table leases add column shared_verifier text;
