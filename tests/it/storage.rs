//! The store worker and the SQL schema against a real PostgreSQL.
