//! `validation`.

use regex::Regex;

use super::Checker;
use crate::{Config, Platforms};

impl Checker<'_> {
    pub(super) fn manifests(&mut self, config: &Config) {
        let rules = &config.validation.manifests;
        for (list, patterns) in [("allow", &rules.urls.allow), ("deny", &rules.urls.deny)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if let Err(error) = Regex::new(pattern) {
                    let key = format!("validation.manifests.urls.{list}[{index}]");
                    self.wrong(&key, format!("this is no regular expression: {error}"));
                }
            }
        }
        let indexes = &rules.indexes;
        if indexes.platforms == Platforms::List && indexes.platformlist.is_empty() {
            self.wrong(
                "validation.manifests.indexes.platformlist",
                "the list of platforms is missing; or set platforms to all or none",
            );
        }
    }
}
