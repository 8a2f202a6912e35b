pub mod starter;
