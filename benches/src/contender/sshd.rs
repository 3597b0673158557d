//! A server for SSH of our own: its keys, its configuration, and the client's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Job;
use crate::network::free_port;
use crate::programs;

/// Name of the receiver's key: the port, which is another one every time, must not be part of it.
const ALIAS: &str = "receiver";

/// Where a server that runs as root must have an empty directory; a service manager makes it
/// when it starts the machine's own server.
const SEPARATION: &str = "/run/sshd";

/// The programs.
#[derive(Debug, Clone, Default)]
pub(super) struct Ssh {
    client: PathBuf,
    server: PathBuf,
    keygen: PathBuf,
}

impl Ssh {
    /// Looks for them.
    ///
    /// # Errors
    /// One of them is not installed.
    pub(super) fn find() -> Result<Self> {
        let [client, server, keygen] = ["ssh", "sshd", "ssh-keygen"].map(programs::find);
        Ok(Self { client: client?, server: server?, keygen: keygen? })
    }

    /// The client's version.
    ///
    /// # Errors
    /// It does not say.
    pub(super) fn version(&self) -> Result<String> {
        programs::first_line(Command::new(&self.client).arg("-V"))
    }

    /// Makes keys and configurations for one run. What the client runs on the server has the
    /// scratch directory for its home: no start-up file of the user is read, no cache is left.
    ///
    /// # Errors
    /// A key or a file cannot be made.
    pub(super) fn configure(&self, job: &Job<'_>) -> Result<Sshd> {
        let port = free_port()?;
        let [host_key, user_key] =
            ["host-key", "user-key"].map(|name| self.key(&job.scratch.join(name)));
        let (host_key, user_key) = (host_key?, user_key?);
        let [known, authorized, client, server] =
            ["known-hosts", "authorized-keys", "ssh-config", "sshd-config"]
                .map(|name| job.scratch.join(name));
        let public = |key: &Path| fs::read_to_string(key.with_extension("pub"));
        fs::write(&authorized, public(&user_key)?).context("cannot authorize a key")?;
        fs::write(&known, format!("{ALIAS} {}", public(&host_key)?))
            .context("cannot write the known hosts")?;
        let text = format!(
            "Port {port}\nListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AuthenticationMethods publickey\nAcceptEnv none\nSetEnv HOME={} TMPDIR={}\n",
            job.receiver().address,
            host_key.display(),
            authorized.display(),
            job.scratch.display(),
            job.scratch.display(),
        );
        fs::write(&server, text).context("cannot write the server's configuration")?;
        let text = format!(
            "HostKeyAlias {ALIAS}\nPort {port}\nUser {}\nIdentityFile {}\nIdentitiesOnly yes\n\
             IdentityAgent none\nBatchMode yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n",
            user()?,
            user_key.display(),
            known.display(),
        );
        fs::write(&client, text).context("cannot write the client's configuration")?;
        separation()?;
        let shell = format!("{} -F {}", self.client.display(), client.display());
        let server = ServerConfig { program: self.server.clone(), config: server };
        Ok(Sshd { port, server, shell })
    }

    /// A key without a passphrase; the scratch directory keeps others out.
    fn key(&self, path: &Path) -> Result<PathBuf> {
        let mut command = Command::new(&self.keygen);
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "fastsst-bench", "-f"]).arg(path);
        programs::done(&mut command).context("cannot make a key")?;
        Ok(path.to_owned())
    }
}

/// A configured server.
#[derive(Debug)]
pub(super) struct Sshd {
    /// Where it listens.
    pub(super) port: u16,
    server: ServerConfig,
    /// The client as a remote shell: the program and its configuration.
    pub(super) shell: String,
}

#[derive(Debug)]
struct ServerConfig {
    program: PathBuf,
    config: PathBuf,
}

impl Sshd {
    /// The server, in the foreground.
    pub(super) fn serve(&self, job: &Job<'_>) -> Command {
        let mut command = job.receiver().command(&self.server.program);
        command.args(["-D", "-e", "-f"]).arg(&self.server.config);
        command
    }
}

/// What must be said with the figures. A server of root waits for the ends of its connections,
/// and so their times are counted; that of another user does not.
pub(super) fn note() -> String {
    let counted = rustix::process::geteuid().is_root();
    if counted { "" } else { "CPU of receiver not counted (not root)" }.to_owned()
}

/// Who runs this; a server that is not root lets in nobody else.
fn user() -> Result<String> {
    programs::first_line(Command::new("id").arg("-un")).context("nobody runs this")
}

/// Empty, in memory, and the same that the machine's own server would have.
fn separation() -> Result<()> {
    const MODE: u32 = 0o755;
    if rustix::process::geteuid().is_root() && !Path::new(SEPARATION).exists() {
        fs::create_dir_all(SEPARATION).context("the SSH server lacks its directory")?;
        fs::set_permissions(SEPARATION, fs::Permissions::from_mode(MODE))
            .context("the SSH server lacks its directory")?;
    }
    Ok(())
}
