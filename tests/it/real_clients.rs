//! Real clients, a real registry, immutag between them: what each reaction gives them, by each
//! way in.

mod containerd;
mod cut;
mod down;
mod login;
mod moved;
mod platforms;
mod pulled;
mod stage;
