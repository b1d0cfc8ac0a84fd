//! Cursors of readers in the log: stored, bounded, and cheap however large the mailbox is.

use std::time::Duration;

use thrum_core::limits;
use thrum_store::query::Filter;

use crate::kit::Node;

fn office() -> Node {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("ben", "coder");
    node
}

#[test]
fn the_cursor_of_the_longest_idle_reader_is_dropped_first() {
    let mut node = office();
    for number in 0..=limits::MAX_CURSORS {
        node.world.pass(Duration::from_millis(1));
        node.store.write(|tx| tx.move_cursor("ben", &format!("reader-{number}"), 7)).unwrap();
    }
    node.store.write(|tx| tx.move_cursor("ann", "reader-0", 3)).unwrap();
    let cursor = |agent: &str, reader: &str| node.store.reader().cursor(agent, reader).unwrap();
    assert_eq!(
        (cursor("ben", "reader-0"), cursor("ben", "reader-1"), cursor("ann", "reader-0")),
        (None, Some(7), Some(3))
    );
    node.store.rebuild().unwrap();
    assert_eq!(node.store.reader().cursor("ben", "reader-1").unwrap(), Some(7), "no part of what is folded");
}

#[test]
fn the_cost_of_reading_news_depends_on_the_news_only() {
    let costs = [10, 1000].map(|mails| {
        let mut node = office();
        for number in 0..mails {
            node.send("ann", &["ben"], &format!("old {number}"));
        }
        let since = node.store.reader().latest().unwrap();
        node.send("ann", &["ben"], "new");
        let filter = Filter { mailbox: Some(node.mailbox("ben")), since: Some(since), limit: 10, ..Filter::default() };
        let effort = node.store.count_effort().unwrap();
        let news = node.store.reader().list(&filter).unwrap();
        assert_eq!((news.messages.len(), news.total, news.unread), (1, 1, 1));
        effort.steps()
    });
    assert!(costs[1] <= costs[0] + costs[0] / 3, "{costs:?}");
}
