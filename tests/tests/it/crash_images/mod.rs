//! Power failures: what a disk that records every write and flush may hold after each of them.

mod check;
mod controls;
mod power;
mod probe;
mod stage;
