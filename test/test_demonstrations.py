from il_robot.demonstrations import NOISE, shaken, steady_noise


def test_noise_in_bursts_is_for_demonstrations_alone():
    assert shaken('insert_peg') == {'action_noise': 0.01, 'noise_share': 0.5}
    assert steady_noise('insert_peg') == 0.0
    assert shaken('transfer_cube') == {'action_noise': NOISE[0], 'noise_share': 1.0}
    assert steady_noise('transfer_cube') == NOISE[0]


def test_who_asks_for_noise_gets_it_all_the_time():
    assert shaken('insert_peg', 0.002) == {'action_noise': 0.002, 'noise_share': 1.0}
    assert steady_noise('insert_peg', 0.002) == 0.002
    assert steady_noise('insert_peg', 0.0) == 0.0
