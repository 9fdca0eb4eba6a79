//! Replacing a server's certificates while it runs: all of them, or none.
//!
//! Owned by control, which calls [`Reloader::reload`] on a signal and now and then (files are compared by what is
//! in them, so calling it often costs reading them, and a file that is half written is at worst refused once). It
//! hands what comes out to the shards, who use it for connections that begin from then on.

use super::material::{Material, MaterialError, ServerSettings};
use super::server::ServerTls;

/// What a reload led to.
#[derive(Debug)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// For every connection from now on.
    Changed(ServerTls),
}

/// See the module.
#[derive(Debug)]
pub struct Reloader {
    settings: ServerSettings,
    current: ServerTls,
}

impl Reloader {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When there is nothing to start with.
    pub fn new(settings: ServerSettings) -> Result<Reloader, MaterialError> {
        let current = ServerTls::new(Material::read(&settings)?)?;
        Ok(Reloader { settings, current })
    }

    /// Which files are read.
    #[must_use]
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> &ServerTls {
        &self.current
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// When they cannot be used; what was in force stays so.
    pub fn reload(&mut self) -> Result<Reload, MaterialError> {
        let material = Material::read(&self.settings)?;
        if material.digest == *self.current.digest() {
            return Ok(Reload::Unchanged);
        }
        self.current = self.current.renewed(material)?;
        Ok(Reload::Changed(self.current.clone()))
    }

    /// Changes which files are read, and reads them.
    ///
    /// # Errors
    /// When they cannot be used; settings and what was in force stay.
    pub fn replace(&mut self, settings: ServerSettings) -> Result<ServerTls, MaterialError> {
        let next = self.current.renewed(Material::read(&settings)?)?;
        (self.settings, self.current) = (settings, next);
        Ok(self.current.clone())
    }
}
