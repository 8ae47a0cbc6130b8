//! What the benchmarks share: the mesh under load, the origin, the generators, the floors.
//!
//! The program of this package is `weft-bench`; `bench/instructions` counts on the same mesh.

pub mod machine;
pub mod origin;
pub mod origin_h2;
pub mod poll;
pub mod weft;
