//! What the gateway knows of live sessions, and the orders to end them.
