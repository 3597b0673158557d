//! A disk that writes down what it is told, with a real file system on it; and the disks that a
//! power failure would have left.
//!
//! ```text
//! format(&file, kind)                                        an empty file system
//! let disk = RecordingDisk::mount(Medium::load(&file), kind, &file, &at)
//! ... writes and syncs below disk.outside() ...
//! let history = disk.finish()
//! let medium = history.image(Crash { after, survivors })     what power failure leaves
//! let disk = MountedImage::of(&medium, kind, &file, &at)
//! ```
//!
//! The disk is a file that this process serves to the kernel by FUSE; a loop device makes a disk of
//! it. What the file system on it makes durable (barriers of its journal, `fsync`) arrives here as
//! a flush. Both are mounted in a namespace of their own, which is gone when the test is, however
//! it ends; whoever has a file on the disk open keeps it alive.
//!
//! Needs root: only root may make loop devices.

mod history;
mod holder;
mod image;
mod medium;
mod served;
mod serving;

pub use history::{Crash, Dice, History, Survivors};
pub use image::{FileSystem, MountedImage, format};
pub use medium::Medium;
pub use serving::RecordingDisk;
