//! From text to a scenario that makes sense.

use std::collections::BTreeSet;
use std::path::Path;

use super::{BUILT_IN, Drive, Overrides, Scenario, ScenarioError};

impl Scenario {
    /// Every scenario that is built in.
    ///
    /// # Panics
    /// Never: a test reads them all.
    #[must_use]
    pub fn built_in() -> Vec<Scenario> {
        let read =
            |text: &&str| Scenario::parse("built in", text).expect("a test reads every built-in scenario");
        BUILT_IN.iter().map(read).collect()
    }

    /// Their names, in the same order.
    #[must_use]
    pub fn names() -> Vec<String> {
        Scenario::built_in().into_iter().map(|scenario| scenario.name).collect()
    }

    /// The built-in scenario of this name, or else the file at this path.
    ///
    /// # Errors
    /// There is neither, or the file is not a scenario.
    pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
        if let Some(found) = Scenario::built_in().into_iter().find(|scenario| scenario.name == name) {
            return Ok(found);
        }
        let path = Path::new(name);
        let looks_like_a_path = name.contains('/') || path.extension().is_some_and(|end| end == "toml");
        if !looks_like_a_path && !path.exists() {
            return Err(ScenarioError::Unknown(name.to_owned()));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| ScenarioError::Read(path.to_path_buf(), error))?;
        Scenario::parse(name, &text)
    }

    /// Reads a scenario; `origin` is what errors name.
    ///
    /// # Errors
    /// It has unknown or missing keys, or says what cannot be done.
    pub fn parse(origin: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario =
            toml::from_str(text).map_err(|error| ScenarioError::Syntax(origin.to_owned(), error))?;
        scenario.check().map_err(|what| ScenarioError::Invalid(scenario.name.clone(), what))?;
        Ok(scenario)
    }

    /// The scenario as a file.
    ///
    /// # Panics
    /// Never: every scenario can be written as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a scenario is tables, lists, numbers and text")
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(format!("name {:?} is not made of letters, digits, - and _", self.name));
        }
        let idle = self.drive == Drive::Idle;
        if idle != self.flows.is_empty() {
            return Err("every drive but idle needs a [[flow]], and idle has none".into());
        }
        if idle == self.idle_connections.is_empty() {
            return Err("idle_connections belongs to drive = \"idle\", and that needs it".into());
        }
        if (self.drive == Drive::Step) != (self.step_factor > 1.0) {
            return Err("step_factor, above 1, belongs to drive = \"step\", and that needs it".into());
        }
        if (self.drive == Drive::Soak) != (self.intervals >= 2) {
            return Err("intervals, at least 2, belongs to drive = \"soak\", and that needs it".into());
        }
        if (self.drive == Drive::Storm) != (self.handshakes > 0 && self.handshakes_at_once > 0) {
            return Err("handshakes and handshakes_at_once, both above 0, belong to drive = \"storm\", and that needs them".into());
        }
        let mut labels = BTreeSet::new();
        for variant in &self.variants {
            if !labels.insert(&variant.label) {
                return Err(format!("two variants are called {:?}", variant.label));
            }
            self.work(&variant.with).map_err(|error| format!("variant {:?}: {error}", variant.label))?;
        }
        self.work(&Overrides::default()).map(|_| ()).map_err(|error| error.to_string())
    }
}
