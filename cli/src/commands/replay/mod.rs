pub mod clock;
pub mod mapping;
pub mod rows;
