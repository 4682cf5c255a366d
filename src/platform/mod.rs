//! The data platforms whose metadata we understand: names, kinds, layouts, rules. No I/O.

pub mod kylin;
