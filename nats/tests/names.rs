//! Whatever a thing is called, its subject is one of ours, and comes back as it was.
use proptest::prelude::*;
use telltale_nats::{
    Lane, Name, Subject,
    subject::{NameError, TOKEN_MAX},
};

proptest! {
    #[test]
    fn a_name_comes_back_from_its_token(plain in ".{1,40}") {
        match Name::new(plain.clone()) {
            Ok(name) => {
                let token = name.token();
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_=-".contains(&byte);
                prop_assert!(token.len() <= TOKEN_MAX && token.bytes().all(legal), "{token}");
                let back = Name::from_token(token).expect("a name's token is one");
                prop_assert_eq!(back.plain(), plain);
            }
            Err(NameError::TooLong(_)) => prop_assert!(plain.len() * 3 > TOKEN_MAX),
            Err(NameError::Reserved(_)) => prop_assert!(plain.starts_with('_')),
            Err(NameError::Control(_)) => prop_assert!(plain.chars().any(char::is_control)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_token_that_is_taken_is_the_only_spelling_of_its_name(token in "[A-Za-z0-9_=.*> -]{0,70}") {
        if let Ok(name) = Name::from_token(&token) {
            prop_assert_eq!(name.token(), &token);
            prop_assert_eq!(Name::new(name.plain()).expect("it was a name"), name);
        }
    }

    #[test]
    fn a_subject_is_parsed_as_it_was_built(lane in 0..Lane::ALL.len(), site in "[a-z0-9-]{1,12}", thing in ".{1,16}", name in ".{1,16}") {
        let lane = Lane::ALL[lane];
        let (Ok(site), Ok(thing), Ok(name)) = (Name::new(site), Name::new(thing), Name::new(name)) else {
            return Ok(());
        };
        let subject = if lane.has_name() {
            Subject::named(lane, site, thing, name)
        } else {
            Subject::of(lane, site, thing)
        };
        prop_assert_eq!(Subject::parse(&subject.to_string()), Ok(subject));
    }

    #[test]
    fn nothing_that_is_sent_makes_the_parser_fall_over(text in ".{0,200}") {
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.to_string(), text);
        }
    }
}
