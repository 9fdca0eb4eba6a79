use super::*;
use proptest::prelude::*;

fn tenant(name: &str, tokens: &[&str], rules: &[(&str, &[Verb])]) -> TenantRules {
    TenantRules {
        name: name.to_owned(),
        tokens: tokens.iter().map(|token| TokenHash::of(token)).collect(),
        rules: rules
            .iter()
            .map(|(prefix, verbs)| Rule { prefix: (*prefix).to_owned(), verbs: verbs.to_vec() })
            .collect(),
    }
}

fn two_tenants() -> Access {
    Access::from_config(vec![
        tenant("plant", &["p-old", "p-new"], &[("plant.", &[Verb::Publish, Verb::Admin])]),
        tenant("desk", &["d"], &[("plant.", &[Verb::Subscribe]), ("desk.", &[Verb::Publish])]),
    ])
    .expect("a good configuration")
}

#[test]
fn hash_is_sha_256_in_hexadecimal() {
    // FIPS 180-2, appendix B.1.
    assert_eq!(hash_token("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let hash = TokenHash::from_hex(&hash_token("abc").to_uppercase()).expect("upper case is as good");
    assert!(hash.matches("abc") && !hash.matches("abd") && !hash.matches(""));
    for bad in ["", "ba78", &"g".repeat(64), &"a".repeat(65)] {
        assert!(TokenHash::from_hex(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn each_token_names_its_tenant_and_nothing_else_does() {
    let access = two_tenants();
    assert_eq!(access.authenticate("p-old"), Some(TenantId(0)));
    assert_eq!(access.authenticate("p-new"), Some(TenantId(0)));
    assert_eq!(access.authenticate("d"), Some(TenantId(1)));
    for wrong in ["", "p", "D", "d ", &hash_token("d")] {
        assert_eq!(access.authenticate(wrong), None, "{wrong:?}");
    }
    assert_eq!(access.tenant_name(TenantId(1)), "desk");
    assert_eq!(access.tenant_named("desk"), Some(TenantId(1)));
    assert_eq!(access.tenant_named("nobody"), None);
    assert!(!access.is_open());
}

#[test]
fn open_to_all_ignores_the_token() {
    let access = Access::open_to_all();
    assert!(access.is_open());
    for token in ["", "anything"] {
        assert_eq!(access.authenticate(token), Some(TenantId(0)));
    }
    for verb in [Verb::Publish, Verb::Subscribe, Verb::Admin] {
        assert!(access.allows(TenantId(0), verb, "any.topic"));
    }
    assert!(!access.allows(TenantId(1), Verb::Publish, "any.topic"), "there is no tenant 1");
    assert_eq!(access.tenant_name(TenantId(0)), DEFAULT_TENANT);
}

#[test]
fn rules_are_by_prefix_and_verb() {
    let access = two_tenants();
    let cases = [
        (0, Verb::Publish, "plant.line1", true),
        (0, Verb::Admin, "plant.", true),
        (0, Verb::Subscribe, "plant.line1", false),
        (0, Verb::Publish, "plant", false),
        (0, Verb::Publish, "desk.x", false),
        (1, Verb::Subscribe, "plant.line1", true),
        (1, Verb::Publish, "plant.line1", false),
        (1, Verb::Publish, "desk.x", true),
        (7, Verb::Publish, "desk.x", false),
    ];
    for (id, verb, topic, expected) in cases {
        assert_eq!(access.allows(TenantId(id), verb, topic), expected, "{id} {verb:?} {topic}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let many = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
    let tokens = many(TOKENS_PER_TENANT + 1);
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let rule: (&str, &[Verb]) = ("a", &[Verb::Publish]);
    let cases = [
        (vec![], AccessError::NoTenants),
        (vec![tenant("", &["a"], &[])], AccessError::BadName { name: String::new() }),
        (vec![tenant("a b", &["a"], &[])], AccessError::BadName { name: "a b".into() }),
        (
            vec![tenant("a", &["x"], &[]), tenant("a", &["y"], &[])],
            AccessError::DuplicateName { name: "a".into() },
        ),
        (
            vec![tenant("a", &["x"], &[]), tenant("b", &["y", "x"], &[])],
            AccessError::DuplicateToken { tenant: "b".into(), other: "a".into() },
        ),
        (
            vec![tenant("a", &tokens, &[])],
            AccessError::TooManyTokens { tenant: "a".into(), count: TOKENS_PER_TENANT + 1 },
        ),
        (
            vec![tenant("a", &["x"], &vec![rule; RULES_PER_TENANT + 1])],
            AccessError::TooManyRules { tenant: "a".into(), count: RULES_PER_TENANT + 1 },
        ),
        (
            vec![tenant("a", &["x"], &[("p", &[])])],
            AccessError::RuleWithoutVerbs { tenant: "a".into(), prefix: "p".into() },
        ),
        (
            many(TENANTS_MAX + 1).iter().map(|name| tenant(name, &[name], &[])).collect(),
            AccessError::TooManyTenants { count: TENANTS_MAX + 1 },
        ),
    ];
    for (config, expected) in cases {
        let text = expected.to_string();
        assert_eq!(Access::from_config(config).err(), Some(expected), "{text}");
    }
}

#[test]
fn verbs_have_names() {
    for verb in Verb::ALL {
        assert_eq!(Verb::from_name(verb.name()), Some(verb));
    }
    assert_eq!(Verb::from_name("write"), None);
}

#[test]
fn nothing_shows_a_hash_or_a_token() {
    let access = two_tenants();
    let shown = [format!("{access:?}"), format!("{access:#?}")];
    for text in shown {
        assert!(text.contains("plant"), "the rest is shown: {text}");
        for token in ["p-old", "p-new"] {
            let hash = TokenHash::of(token);
            assert!(!text.contains(token) && !text.contains(&hash.to_hex()), "{text}");
            let bytes = format!("{:?}", Sha256Bytes(&hash));
            assert!(!text.contains(&bytes), "{text}");
        }
    }
}

/// The hash as a derived `Debug` would print its first bytes.
struct Sha256Bytes<'a>(&'a TokenHash);

impl std::fmt::Debug for Sha256Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = self.0.to_hex();
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
        write!(f, "{}, {}, {}", byte(0), byte(1), byte(2))
    }
}

#[test]
fn generated_tokens_are_long_and_different() {
    let (a, b) = (generate_token().expect("random"), generate_token().expect("random"));
    assert_ne!(a, b);
    assert_eq!(a.len(), TOKEN_PREFIX.len() + 64);
    assert!(a.starts_with(TOKEN_PREFIX) && a.len() <= crate::limits::TOKEN_BYTES_MAX);
}

proptest! {
    #[test]
    fn tokens_and_rules_agree_with_a_plain_model(
        tokens in prop::collection::btree_map("[a-c]{1,3}", 0u16..4, 1..12),
        rules in prop::collection::vec((0u16..4, "[a-b]{0,2}", prop::bool::ANY), 0..12),
        asked in "[a-c]{0,3}",
        topic in "[a-b]{0,4}",
    ) {
        let configs: Vec<TenantRules> = (0..4u16).map(|id| {
            let mut own: Vec<&str> =
                tokens.iter().filter(|(_, t)| **t == id).map(|(token, _)| token.as_str()).collect();
            let spare = format!("spare{id}");
            own.push(&spare);
            let rules: Vec<(&str, &[Verb])> = rules.iter().filter(|(t, ..)| *t == id).map(|(_, prefix, publish)| {
                let verbs: &[Verb] = if *publish { &[Verb::Publish] } else { &[Verb::Subscribe] };
                (prefix.as_str(), verbs)
            }).collect();
            tenant(&format!("t{id}"), &own, &rules)
        }).collect();
        let access = Access::from_config(configs).expect("a good configuration");
        prop_assert_eq!(access.authenticate(&asked), tokens.get(&asked).map(|&id| TenantId(id)));
        for id in 0..4 {
            let expected = rules.iter().any(|(t, prefix, publish)| {
                *t == id && *publish && topic.as_bytes().starts_with(prefix.as_bytes())
            });
            prop_assert_eq!(access.allows(TenantId(id), Verb::Publish, &topic), expected);
        }
    }
}
