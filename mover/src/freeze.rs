//! How the donor's server is made to stand still; implemented by the caller.

use crate::cancel::Cancel;
use crate::error::Result;

/// Proof that the server stands still, with the position it stands at.
#[derive(Debug)]
pub struct Frozen {
    /// The position of the image, as the server wrote it. Opaque to the engine.
    pub position: Vec<u8>,
}

/// Stops and resumes the writes of the server whose files are copied.
///
/// The engine calls `thaw` exactly once after a successful `freeze`, whatever happens.
pub trait Freeze: Send {
    /// Stops all writes; returns when they have stopped.
    ///
    /// # Errors
    /// Whatever kept the server from stopping; it must not stay locked then.
    fn freeze(&mut self, cancel: &Cancel) -> Result<Frozen>;

    /// Whether there is a server that waits between `freeze` and `thaw`.
    fn is_felt(&self) -> bool {
        true
    }

    /// Lets the server write again.
    ///
    /// # Errors
    /// The server is gone.
    fn thaw(&mut self) -> Result<()>;
}

/// For a tree that nobody writes to: freezing does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFreeze;

impl Freeze for NoFreeze {
    fn freeze(&mut self, _: &Cancel) -> Result<Frozen> {
        Ok(Frozen { position: Vec::new() })
    }

    fn is_felt(&self) -> bool {
        false
    }

    fn thaw(&mut self) -> Result<()> {
        Ok(())
    }
}
