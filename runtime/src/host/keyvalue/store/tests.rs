use af_contract::limits::VALUE_BYTES;

use super::*;

fn project(name: &str) -> Arc<str> {
    name.into()
}

fn set(key: &str, value: &[u8]) -> Change {
    Change::Set(vec![(key.into(), value.into())])
}

async fn get(store: &KeyValue, namespace: &Namespace, key: &str) -> Option<Vec<u8>> {
    let mut found = store.read(namespace.clone(), vec![key.into()]).await.unwrap();
    found.pop().unwrap().1
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyvalue.redb");
    let namespace = Namespace::new(&project("p"), "s");
    let store = KeyValue::open(Some(&path)).unwrap();
    store.write(namespace.clone(), set("key", b"value")).await.unwrap();
    drop(store);
    let store = KeyValue::open(Some(&path)).unwrap();
    assert_eq!(get(&store, &namespace, "key").await.as_deref(), Some(&b"value"[..]));
}

#[tokio::test]
async fn projects_and_stores_do_not_see_each_other() {
    let store = KeyValue::open(None).unwrap();
    let one = Namespace::new(&project("p"), "sx");
    // Without lengths, these would be the same bytes.
    let others = [Namespace::new(&project("ps"), "x"), Namespace::new(&project("p"), "s")];
    store.write(one.clone(), set("key", b"1")).await.unwrap();
    for other in others {
        assert_eq!(get(&store, &other, "key").await, None);
        assert_eq!(get(&store, &other, "xkey").await, None);
        assert_eq!(store.keys(other, None).await.unwrap(), (vec![], false));
    }
    assert_eq!(store.keys(one, None).await.unwrap(), (vec!["key".into()], false));
}

#[tokio::test]
async fn counting_at_the_same_time_loses_nothing() {
    let store = KeyValue::open(None).unwrap();
    let namespace = Namespace::new(&project("p"), "s");
    let count = || store.write(namespace.clone(), Change::Increment("n".into(), 2));
    futures::future::join_all((0..100).map(|_| count())).await;
    assert_eq!(count().await.unwrap(), Changed::Number(202));
    store.write(namespace.clone(), set("n", b"no number")).await.unwrap();
    assert!(matches!(count().await, Err(StoreError::Number)));
    store.write(namespace.clone(), set("n", u64::MAX.to_string().as_bytes())).await.unwrap();
    assert!(matches!(count().await, Err(StoreError::Number)));
}

#[tokio::test]
async fn a_swap_happens_only_to_what_was_expected() {
    let store = KeyValue::open(None).unwrap();
    let namespace = Namespace::new(&project("p"), "s");
    let swap = |expected: Option<&[u8]>, value: &[u8]| {
        let (expected, value) = (expected.map(<[u8]>::to_vec), value.to_vec());
        store.write(namespace.clone(), Change::Swap { key: "k".into(), expected, value })
    };
    assert_eq!(swap(None, b"1").await.unwrap(), Changed::Done);
    assert_eq!(swap(None, b"2").await.unwrap(), Changed::Conflict(Some(b"1".to_vec())));
    assert_eq!(swap(Some(b"1"), b"3").await.unwrap(), Changed::Done);
    assert_eq!(get(&store, &namespace, "k").await.as_deref(), Some(&b"3"[..]));
}

#[tokio::test]
async fn a_project_has_a_bound_and_deleting_makes_room() {
    let store = KeyValue::open(None).unwrap();
    let namespace = Namespace::new(&project("p"), "s");
    let megabyte = vec![7; VALUE_BYTES];
    let batch = |number: u32| {
        let entry = |part| (format!("{number}-{part}"), megabyte.clone());
        Change::Set((0..4).map(entry).collect())
    };
    let mut written = 0;
    while store.write(namespace.clone(), batch(written)).await.is_ok() {
        written += 1;
    }
    assert!(matches!(store.write(namespace.clone(), batch(written)).await, Err(StoreError::Full)));
    assert_eq!(written, 63, "of 64, since keys count too");
    let other = Namespace::new(&project("q"), "s");
    store.write(other, set("k", b"v")).await.unwrap();
    store
        .write(namespace.clone(), Change::Delete((0..4).map(|part| format!("0-{part}")).collect()))
        .await
        .unwrap();
    store.write(namespace, batch(written)).await.unwrap();
}

#[tokio::test]
async fn what_is_too_much_is_refused_at_the_door() {
    let store = KeyValue::open(None).unwrap();
    let namespace = Namespace::new(&project("p"), "s");
    let write = |change| store.write(namespace.clone(), change);
    assert!(matches!(write(set("", b"v")).await, Err(StoreError::Key(0))));
    assert!(matches!(write(set(&"k".repeat(513), b"v")).await, Err(StoreError::Key(513))));
    assert!(matches!(write(set("k", &vec![0; (1 << 20) + 1])).await, Err(StoreError::Value(_))));
    let keys = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    assert!(matches!(write(Change::Delete(keys(101))).await, Err(StoreError::Batch(101))));
    assert!(matches!(store.read(namespace.clone(), keys(101)).await, Err(StoreError::Batch(101))));
    let mut refused = false;
    for _ in 0..20 {
        refused |= matches!(write(Change::Delete(keys(100))).await, Err(StoreError::Rate));
    }
    assert!(refused, "2,000 writes at once");
}

#[tokio::test]
async fn keys_come_in_pages() {
    let store = KeyValue::open(None).unwrap();
    let namespace = Namespace::new(&project("p"), "s");
    for page in 0..11 {
        let entries = (0..99).map(|number| (format!("{page:02}-{number:02}"), vec![]));
        // More than the rate allows at once would be refused.
        let change = Change::Set(entries.collect());
        if store.write(namespace.clone(), change).await.is_err() {
            break;
        }
    }
    let (first, more) = store.keys(namespace.clone(), None).await.unwrap();
    let (rest, end) = store.keys(namespace.clone(), first.last().cloned()).await.unwrap();
    assert_eq!((first.len(), more || rest.is_empty(), end), (first.len(), true, false));
    let mut all = first;
    all.extend(rest);
    assert!(all.len() >= 990 && all.is_sorted(), "{}", all.len());
}

#[tokio::test]
async fn a_copy_has_all_entries_and_counts_them_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.redb");
    let store = KeyValue::open(None).unwrap();
    let [one, two] = ["p", "q"].map(|name| Namespace::new(&project(name), "s"));
    let large = vec![7; VALUE_BYTES];
    store.write(one.clone(), set("key", b"value")).await.unwrap();
    store.write(one.clone(), set("large", &large)).await.unwrap();
    store.write(two.clone(), set("key", b"other")).await.unwrap();
    let mut copied = Vec::new();
    let take = |key: &[u8], value: &[u8]| {
        copied.push(Ok((key.to_vec(), value.to_vec())));
        Ok(())
    };
    assert_eq!(store.copy(take).unwrap(), 3);
    assert_eq!(KeyValue::make(&path, copied.into_iter()).unwrap(), 3);
    let made = KeyValue::open(Some(&path)).unwrap();
    assert_eq!(get(&made, &one, "key").await.as_deref(), Some(&b"value"[..]));
    assert_eq!(get(&made, &one, "large").await, Some(large));
    assert_eq!(get(&made, &two, "key").await.as_deref(), Some(&b"other"[..]));
    let used = |store: &KeyValue, project: &str| {
        let usage = store.inner.database.begin_read().unwrap().open_table(writer::USAGE).unwrap();
        usage.get(project).unwrap().unwrap().value()
    };
    for project in ["p", "q"] {
        assert_eq!(used(&store, project), used(&made, project));
    }
    for wrong in [&b""[..], b"\x01p\x01s", b"\x09p", b"\x01p\x01s\xff"] {
        let entries = std::iter::once(Ok((wrong.to_vec(), vec![])));
        assert!(matches!(KeyValue::make(&dir.path().join("wrong"), entries), Err(CopyError::Entry)));
    }
}
