-- Who gave a command, in each of its outcomes.
alter table store.outcomes add column issuer text;
