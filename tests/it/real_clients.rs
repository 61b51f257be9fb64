//! Real clients, a real registry, immutag between them: what each reaction gives them, by each
//! way in.

mod moved;
mod pulled;
mod stage;
