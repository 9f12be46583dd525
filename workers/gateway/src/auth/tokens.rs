//! Giving people tokens, listing them, taking them away: what `telltale token` does.
use super::{
    Scope,
    people::{BUCKET, Person},
};
use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use telltale_nats::{
    Name,
    async_nats::jetstream::{
        self,
        kv::{CreateErrorKind, Operation, Store},
    },
};
use telltale_schemas::Timestamp;

/// The bucket.
pub async fn bucket(js: &jetstream::Context) -> anyhow::Result<Store> {
    js.get_key_value(BUCKET)
        .await
        .context("open the bucket `people`; `telltale provision` makes it")
}

/// Makes a token, and returns it; it can be had at no other time. One that is there is not replaced.
pub async fn create(
    store: &Store,
    name: &Name,
    scopes: Vec<Scope>,
    expires: Option<Timestamp>,
) -> anyhow::Result<(String, Person)> {
    let (token, person) = Person::new_token(name, scopes, expires);
    let value = serde_json::to_vec(&person)?.into();
    match store.create(name.token(), value).await {
        Ok(_) => Ok((token, person)),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
            bail!("there is a token of `{}`: revoke it first", name.plain())
        }
        Err(error) => Err(error).context("write a token"),
    }
}

/// Writes what a token is to be, whatever is there: for one whose secret is kept elsewhere.
pub async fn put(store: &Store, person: &Person) -> anyhow::Result<()> {
    let name = Name::new(person.name.as_str())?;
    let value = serde_json::to_vec(person)?;
    let there = store.get(name.token()).await.context("read a token")?;
    if there.is_none_or(|there| there[..] != value[..]) {
        store
            .put(name.token(), value.into())
            .await
            .context("write a token")?;
    }
    Ok(())
}

/// All tokens by name, without their secrets.
pub async fn list(store: &Store) -> anyhow::Result<Vec<Person>> {
    let mut people = Vec::new();
    let mut keys = store.keys().await.context("list the tokens")?;
    while let Some(key) = keys.try_next().await.context("list the tokens")? {
        let entry = store.entry(&key).await.with_context(|| format!("read `{key}`"))?;
        if let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) {
            let person: Person =
                serde_json::from_slice(&entry.value).with_context(|| format!("read the token `{key}`"))?;
            people.push(person);
        }
    }
    people.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(people)
}

/// Takes a token away; whether there was one.
pub async fn revoke(store: &Store, name: &Name) -> anyhow::Result<bool> {
    let entry = store.entry(name.token()).await.context("read a token")?;
    let was_there = entry.is_some_and(|entry| entry.operation == Operation::Put);
    if was_there {
        store.delete(name.token()).await.context("take a token away")?;
    }
    Ok(was_there)
}
