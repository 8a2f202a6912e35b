//! Modules that compute.
