//! The settings of an installation: a stack of properties files, with `${name}` filled in, and where each came from.

use std::fmt;

use crate::platform::kylin::Error;
use crate::platform::kylin::properties::Properties;

/// The key that says where the metadata is.
pub const METADATA_URL: &str = "kylin.metadata.url";
/// The key of the directory for everything that is not in a database.
pub const HDFS_WORKING_DIR: &str = "kylin.env.hdfs-working-dir";

/// What Kylin's own jar holds, for the keys above.
const SHIPPED: [(&str, &str); 2] = [
    (
        METADATA_URL,
        "kylin_metadata@jdbc,driverClassName=org.postgresql.Driver,url=jdbc:postgresql://localhost:5432/kylin,\
         username=postgres,password=",
    ),
    (HDFS_WORKING_DIR, "/kylin"),
];

/// Most levels of properties within properties.
const DEPTH_MAX: usize = 64;
/// Longest value with everything filled in, so that doubling at each level comes to an end.
const FILLED_BYTES_MAX: usize = 1 << 20;

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The properties files of an installation, the strongest first.
///
/// Java system properties of a running Kylin, which are stronger still, can't be seen from outside.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `conf/kylin.properties.override`.
    pub overrides: Properties,
    /// `conf/kylin.properties`.
    pub properties: Properties,
    /// Defaults the caller knows, if any. The few that are needed here are built in below these.
    pub defaults: Properties,
}

/// Which file a value is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `kylin.properties.override`.
    OverrideFile,
    /// `kylin.properties`.
    PropertiesFile,
    /// No file of the installation: Kylin's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OverrideFile => "kylin.properties.override",
            Self::PropertiesFile => "kylin.properties",
            Self::Default => "Kylin's default",
        })
    }
}

/// A value and where it is from. Its `Debug` leaves the value out, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value, filled in.
    pub value: String,
    /// Where it is from.
    pub origin: Origin,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Settings {
    /// Returns the value of `kylin.metadata.url`: Kylin's default if no file has it, and its origin says so.
    ///
    /// # Errors
    /// As [`Settings::get`].
    pub fn metadata_url(&self, environment: Environment<'_>) -> Result<Setting, Error> {
        self.get(METADATA_URL, environment).map(|setting| setting.expect("the key has a built-in default"))
    }

    /// Returns the value of `kylin.env.hdfs-working-dir`, or Kylin's default.
    ///
    /// # Errors
    /// As [`Settings::get`].
    pub fn hdfs_working_dir(&self, environment: Environment<'_>) -> Result<Setting, Error> {
        self.get(HDFS_WORKING_DIR, environment).map(|setting| setting.expect("the key has a built-in default"))
    }

    /// Returns the value of a key. `${name}` is replaced by a variable of the environment or else a property,
    /// `${name:-text}` by `text` if there is neither. As in Kylin, an unknown `${name}` and `$${` stay, the latter with
    /// one `$` less.
    ///
    /// # Errors
    /// When a property contains itself, or too much of others.
    pub fn get(&self, key: &str, environment: Environment<'_>) -> Result<Option<Setting>, Error> {
        let Some((raw, origin)) = self.raw(key) else { return Ok(None) };
        let value = Filling { settings: self, environment, names: vec![key.to_owned()] }.fill(raw)?;
        Ok(Some(Setting { value, origin }))
    }

    fn raw(&self, key: &str) -> Option<(&str, Origin)> {
        let in_files = [
            (&self.overrides, Origin::OverrideFile),
            (&self.properties, Origin::PropertiesFile),
            (&self.defaults, Origin::Default),
        ];
        let in_file = in_files.into_iter().find_map(|(file, origin)| Some((file.get(key)?, origin)));
        in_file.or_else(|| {
            SHIPPED.into_iter().find(|(shipped, _)| *shipped == key).map(|(_, value)| (value, Origin::Default))
        })
    }
}

/// The filling in of one value; `names` are the properties and, with a `$`, the variables it is in the middle of.
struct Filling<'a> {
    settings: &'a Settings,
    environment: Environment<'a>,
    names: Vec<String>,
}

impl Filling<'_> {
    fn fill(&mut self, text: &str) -> Result<String, Error> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from_start) = rest.split_at(start);
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = &from_start[2..];
                continue;
            }
            let Some(end) = from_start.find('}') else { break };
            filled.push_str(before);
            match self.resolve(&from_start[2..end])? {
                Some(value) => filled.push_str(&value),
                None => filled.push_str(&from_start[..=end]),
            }
            if filled.len() > FILLED_BYTES_MAX {
                return Err(self.too_deep());
            }
            rest = &from_start[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Returns what stands for the inside of `${…}`, itself filled in; nothing if it is unknown.
    fn resolve(&mut self, expression: &str) -> Result<Option<String>, Error> {
        let (name, otherwise) = match expression.split_once(":-") {
            // Kylin's substitution does not look inside a name, so a default ends at the first brace.
            Some((name, otherwise)) if !name.contains("${") => (name, Some(otherwise)),
            _ => (expression, None),
        };
        // A property may hold the variable of its own name, so the two are told apart: `HOST=${HOST}` is no cycle.
        let variable = (self.environment)(name).map(|value| (format!("${name}"), value));
        let known = variable.or_else(|| self.settings.raw(name).map(|(value, _)| (name.to_owned(), value.to_owned())));
        let Some((id, value)) = known.or_else(|| otherwise.map(|text| (format!("{name}:-"), text.to_owned()))) else {
            return Ok(None);
        };
        if let Some(first) = self.names.iter().position(|open| *open == id) {
            let mut names = self.names.split_off(first);
            names.push(id);
            return Err(Error::Cycle { names });
        }
        self.names.push(id);
        if self.names.len() > DEPTH_MAX {
            return Err(self.too_deep());
        }
        let value = self.fill(&value)?;
        self.names.pop();
        Ok(Some(value))
    }

    fn too_deep(&self) -> Error {
        Error::TooDeep { name: self.names[0].clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(overrides: &str, properties: &str) -> Settings {
        Settings {
            overrides: Properties::parse(overrides.as_bytes()).unwrap(),
            properties: Properties::parse(properties.as_bytes()).unwrap(),
            defaults: Properties::default(),
        }
    }

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".to_owned()),
            "NESTED" => Some("${HOST}:5432".to_owned()),
            "LOOP" => Some("${LOOP}".to_owned()),
            "kylin.metadata.url" => Some("of no use".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn metadata_url_is_from_the_strongest_file() {
        let in_both = settings("kylin.metadata.url=a@jdbc", "kylin.metadata.url = b@jdbc ");
        let in_one = settings("x=y", "kylin.metadata.url = b@jdbc ");
        let default = settings("", "");
        for (settings, value, origin) in [
            (&in_both, "a@jdbc", Origin::OverrideFile),
            (&in_one, "b@jdbc", Origin::PropertiesFile),
            (&default, SHIPPED[0].1, Origin::Default),
        ] {
            assert_eq!(settings.metadata_url(&environment).unwrap().value, value);
            assert_eq!(settings.metadata_url(&environment).unwrap().origin, origin);
        }
        assert_eq!(default.hdfs_working_dir(&environment).unwrap().value, "/kylin");
        assert_eq!(default.get("x", &environment).unwrap(), None);
    }

    #[test]
    fn get_fills_in_variables_then_properties() {
        let properties = r"
            HOST=${HOST}
            port=5432
            where=${HOST}:${port}
        ";
        for (value, filled) in [
            ("jdbc:postgresql://${where}/kylin", "jdbc:postgresql://db1:5432/kylin"),
            ("${NESTED}", "db1:5432"),
            ("${where}${where}", "db1:5432db1:5432"),
            ("${nothing} ${port", "${nothing} ${port"),
            ("${nothing:-some}${HOST:-none}${nothing:-}", "somedb1"),
            ("$${HOST} $$${HOST} pa$$word$", "${HOST} $${HOST} pa$$word$"),
            ("${}", "${}"),
            ("${a ${HOST}", "${a ${HOST}"),
        ] {
            let settings = settings(&format!("a={value}"), properties);
            assert_eq!(settings.get("a", &environment).unwrap().unwrap().value, filled, "{value}");
        }
    }

    #[test]
    fn a_cycle_is_named() {
        let settings = settings("", "a=${b}\nb=${c}\nc=x${b}\nd=${d:-1}\ne=${LOOP}");
        let message = |key| settings.get(key, &environment).unwrap_err().to_string();
        assert_eq!(message("a"), "the property b contains itself: b -> c -> b");
        assert_eq!(message("d"), "the property d contains itself: d -> d");
        assert_eq!(message("e"), "the property $LOOP contains itself: $LOOP -> $LOOP");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let chain: String = (0..100).map(|n| format!("a{n}=${{a{}}}\n", n + 1)).collect();
        let doubling: String = (0..40).map(|n| format!("a{n}=${{a{0}}}${{a{0}}}\n", n + 1)).collect();
        for properties in [chain + "a100=x", doubling + "a40=x"] {
            let error = settings("", &properties).get("a0", &environment).unwrap_err();
            assert_eq!(error, Error::TooDeep { name: "a0".to_owned() });
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let settings = settings("kylin.metadata.url=hunter2", "");
        let setting = settings.metadata_url(&environment).unwrap();
        assert!(!format!("{settings:?} {setting:?}").contains("hunter2"));
    }
}
