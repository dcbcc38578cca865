//! axum routers, one file per audience; handlers parse, call one function, render.
