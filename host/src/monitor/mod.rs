pub mod supervised;
