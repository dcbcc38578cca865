//! What the types must make impossible: approvals from nothing, one approval used twice, a grant
//! without two approvals.

#[test]
fn proof_tokens_cannot_be_forged_or_reused() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/must_not_compile/*.rs");
    cases.pass("tests/must_compile/*.rs");
}
