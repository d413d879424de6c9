from il_robot.control.roll_call import RollCall


def test_silence_and_return_are_told_once():
    calls = RollCall(['policy', 'sim'], patience=2)
    for name in ('policy', 'sim', 'a driver'):
        calls.heard(name)
    said = []
    for i in range(12):
        if i >= 8:
            calls.heard('policy')
        calls.heard('sim')
        said.append(calls.call())
    assert [(i, s) for i, s in enumerate(said) if any(s)] == [
        (2, (['policy'], [])), (8, ([], ['policy']))]
    assert calls.present == ('policy', 'sim') and calls.silent == ()


def test_who_never_reported_is_not_missed():
    calls = RollCall(['policy', 'recorder'], patience=1)
    calls.heard('recorder')
    for _ in range(3):
        calls.call()
    assert calls.silent == ('recorder',)
