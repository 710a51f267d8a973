"""What fengine costs, measured beside a bare loop and ignite; run by hand, never by the tests."""
