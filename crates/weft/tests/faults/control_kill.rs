//! control_kill
