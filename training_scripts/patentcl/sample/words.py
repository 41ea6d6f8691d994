"""The words of the synthetic sample: CPC subclasses with their subject words, paired terms, sentences.

Only data and its parsing: `sample.py` decides which patent gets which word.
"""

# A CPC subclass and its (shortened) official title; below it ten subject words, `_` for a space inside one.
# Ordered by symbol: every section and class is one contiguous range.
_SUBCLASSES = """
A01B Soil working in agriculture or forestry; parts, details, or accessories of agricultural machines
    plough furrow soil_tine harrow cultivator ploughshare hitch_frame seedbed clod_roller subsoiler
A01D Harvesting; mowing
    mower sickle_bar windrow threshing_header cutter_deck baler_pickup crop_divider lawn_blade rake_reel
    grass_chute
A01G Horticulture; cultivation of vegetables, flowers, rice, fruit, vines, hops or seaweed; forestry
    greenhouse drip_irrigator planter seedling pruning_shears flower_pot trellis hydroponic_tray tree_guard
    sprinkler
A01K Animal husbandry; aviculture; apiculture; pisciculture; fishing
    fishing_lure beehive poultry_feeder pet_collar aquarium livestock_stall fishing_reel egg_tray
    milking_cup kennel
A47C Chairs; sofas; beds
    armrest backrest mattress recliner sofa bed_frame seat_cushion footrest headboard folding_chair
A47J Kitchen equipment; coffee mills; spice mills; apparatus for making beverages
    coffee_brewer frying_pan kettle juicer toaster rice_cooker blender_jar tea_infuser grill_plate peeler
A61B Diagnosis; surgery; identification
    endoscope scalpel catheter_tip electrocardiogram ultrasound_probe biopsy_needle surgical_stapler
    pulse_oximeter trocar forceps
A61F Filters implantable into blood vessels; prostheses; orthopaedic, nursing or contraceptive devices
    stent hip_prosthesis bandage absorbent_diaper intraocular_lens knee_brace heart_graft wound_dressing
    spinal_implant sanitary_napkin
A61K Preparations for medical, dental, or toilet purposes
    tablet ointment dosage_form cosmetic_cream excipient oral_suspension vaccine_dose toothpaste
    capsule_shell shampoo
A63B Apparatus for physical training, gymnastics, swimming, climbing, or fencing; ball games
    golf_club treadmill dumbbell tennis_racket swim_fin ball_bladder climbing_grip exercise_bike putter_head
    bat_handle
B01D Separation
    filter_cartridge distillation_column membrane_module cyclone_separator sludge_settler activated_carbon
    evaporator demister filtrate degasser
B01J Chemical or physical processes, e.g. catalysis or colloid chemistry; their relevant apparatus
    zeolite catalyst_bed fluidised_reactor ion_exchange_resin aerogel platinum_catalyst microcapsule colloid
    alumina_support packed_tower
B05B Spraying apparatus; atomising apparatus; nozzles
    spray_nozzle atomiser paint_gun aerosol_can shower_head trigger_sprayer mist_cone powder_sprayer
    jet_orifice spray_boom
B05C Apparatus for applying fluent materials to surfaces, in general
    coating_head slot_die doctor_blade glue_roller dip_tank adhesive_gun coated_web curtain_coater
    brush_applicator spin_coater
B23K Soldering or unsoldering; welding; cladding or plating by soldering or welding; working by laser beam
    welding_torch laser_cutter solder_paste weld_seam arc_electrode spot_welder filler_wire brazing_alloy
    plasma_torch molten_pool
B23P Metal-working not otherwise provided for; combined operations; universal machine tools
    machining_centre press_fit_tool turbine_repair assembly_robot workpiece_pallet shrink_fit rivet_setter
    screw_feeder metal_insert tool_changer
B29B Preparation or pretreatment of the material to be shaped; making granules or preforms
    plastic_pellet pelletiser regrind preform_blank kneader masterbatch resin_dryer prepreg scrap_plastic
    granulator
B29C Shaping or joining of plastics; shaping of material in a plastic state
    injection_mould extruder_screw blow_moulding thermoforming laminate_ply heat_sealing 3D_printer parison
    mould_cavity vacuum_bag
B60K Arrangement or mounting of propulsion units or of transmissions in vehicles
    engine_mount dashboard fuel_tank_cap accelerator_pedal hybrid_drivetrain instrument_cluster axle_drive
    radiator_grille vehicle_transmission cruise_lever
B60L Propulsion of electrically-propelled vehicles; supplying electric power for their auxiliary equipment
    charging_station traction_battery regenerative_brake electric_vehicle pantograph maglev_track
    trolley_line drive_inverter charging_plug range_extender
B60W Conjoint control of vehicle sub-units; road vehicle drive control systems
    lane_keeping driver_assistance torque_split hybrid_mode coasting yaw_rate adaptive_cruise driver_fatigue
    gearshift_schedule autonomous_driving
B65D Containers for storage or transport of articles or materials
    bottle_cap carton shipping_container pouch lid_seal drum_liner tray_insert tamper_band corrugated_box
    jar_closure
B65G Transport or storage devices, e.g. conveyors for loading or tipping; pneumatic tube conveyors
    conveyor_belt roller_track parcel_sorter pallet_stacker warehouse_shuttle screw_conveyor depalletiser
    loading_ramp bucket_elevator storage_rack
C01B Non-metallic elements; compounds thereof
    hydrogen_gas graphene_oxide silicon_ingot ozone_stream carbon_nanotube sulphuric_acid hydride phosphate
    ammonia syngas
C01G Compounds containing metals not covered by other subclasses
    titanium_dioxide nickel_hydroxide manganese_oxide cobalt_salt zirconia iron_oxide vanadate tungstate
    ferrite molybdate
C02F Treatment of water, waste water, sewage, or sludge
    wastewater aeration_basin biofilm sewage_sludge desalination ozonation nitrification flocculant
    clarifier brine
C07C Acyclic or carbocyclic compounds
    acetic_acid methanol ester amine_salt alkene aldehyde ketone aromatic_ring fatty_acid hydroformylation
C07D Heterocyclic compounds
    pyridine imidazole piperazine indole pyrimidine lactam oxazole thiazole quinoline triazole
C07K Peptides
    antibody polypeptide antigen_epitope amino_acid_residue immunoglobulin receptor_ligand cytokine
    heavy_chain fusion_protein glycoprotein
C08F Macromolecular compounds obtained by reactions only involving carbon-to-carbon unsaturated bonds
    ethylene_polymer acrylate_monomer radical_initiator styrene latex_particle metallocene copolymer
    vinyl_chloride grafted_chain emulsion_polymerisation
C08L Compositions of macromolecular compounds
    rubber_blend polyolefin filler_loading thermoplastic plasticiser polyamide_compound silicone_gel
    impact_modifier polycarbonate elastomer
C12N Microorganisms or enzymes; compositions thereof; mutation or genetic engineering; culture media
    stem_cell plasmid bacterial_strain enzyme_variant gene_vector yeast_culture guide_RNA transfection
    promoter_sequence fibroblast
C12Q Measuring or testing processes involving enzymes, nucleic acids or microorganisms
    PCR_primer nucleic_acid_probe sequencing_read biomarker genotype hybridisation_assay amplicon
    methylation oligonucleotide DNA_library
C22C Alloys
    stainless_steel aluminium_alloy titanium_alloy martensite magnesium_sheet nickel_superalloy
    amorphous_ribbon carbide_grain austenite copper_strip
D01F Chemical features in the manufacture of artificial filaments, threads, fibres, bristles or ribbons
    filament spinneret carbon_fibre viscose bicomponent_fibre nylon_yarn aramid spinning_dope drawn_thread
    lyocell
D03D Woven fabrics; methods of weaving; looms
    loom weft_yarn warp_thread woven_fabric shuttle_box heddle selvedge reed_dent jacquard airbag_cloth
D06F Laundering, drying, ironing, pressing or folding textile articles
    washing_machine tumble_dryer detergent_drawer steam_iron laundry_drum ironing_board lint_screen
    spin_cycle clothes_hanger softener_dispenser
D06M Treatment of fibres, threads, yarns, fabrics, feathers or fibrous goods made from such materials
    fabric_softener textile_finish water_repellent sizing_agent crease_resistance wool_bleaching
    flame_retardant feather_cleaning antistatic_finish dyed_textile
E02D Foundations; excavations; embankments; underground or underwater structures
    foundation_pile retaining_wall manhole_cover sheet_pile caisson grouted_anchor excavation_pit
    diaphragm_wall soil_nail tunnel_lining
E02F Dredging; soil-shifting
    excavator_bucket dredger bulldozer ripper_tooth hydraulic_shovel boom_cylinder loader_arm trench_digger
    digging_edge suction_dredge
E04B General building constructions; walls; roofs; floors; ceilings
    wall_panel ceiling_tile roof_truss insulation_board curtain_wall precast_slab steel_column brick_course
    acoustic_baffle floor_joist
E05B Locks; accessories therefor; handcuffs
    door_lock padlock key_blank deadbolt cylinder_lock vehicle_door_handle striker_plate lock_bolt
    strike_plate keyhole
E21B Earth or rock drilling; obtaining oil, gas, water or minerals from wells
    drill_bit wellbore casing_string packer drilling_mud fracturing_fluid downhole_tool blowout_preventer
    riser production_tubing
F01D Non-positive displacement machines or engines, e.g. steam turbines
    turbine_blade rotor_disc stator_vane blade_platform airfoil_cooling steam_turbine shroud_ring
    tip_clearance compressor_casing gas_turbine
F01N Gas-flow silencers or exhaust apparatus for machines or engines
    exhaust_pipe muffler particulate_filter urea_injection catalytic_converter exhaust_manifold tailpipe
    soot_regeneration silencer NOx_sensor
F02D Controlling combustion engines
    throttle ignition_timing air_fuel_ratio knock_control idle_speed cylinder_deactivation crankshaft_angle
    injection_quantity intake_pressure misfire
F02M Supplying combustion engines in general with combustible mixtures or constituents thereof
    fuel_injector carburettor common_rail fuel_pump intake_manifold exhaust_recirculation needle_lift
    fuel_vapour air_cleaner fuel_filter
F16H Gearing
    planetary_gear worm_wheel belt_pulley differential_gear torque_converter harmonic_drive gear_tooth
    chain_sprocket ball_screw shift_fork
F16K Valves; taps; cocks; actuating-floats; devices for venting or aerating
    ball_cock faucet check_flap solenoid_plunger butterfly_disc gate_spindle relief_port stopcock float_vent
    tap_body
F24F Air-conditioning; air-humidification; ventilation; use of air currents for screening
    air_conditioner humidifier ventilation_duct indoor_unit fan_coil thermostat heat_recovery air_curtain
    damper_vane clean_room
G01N Investigating or analysing materials by determining their chemical or physical properties
    spectrometer chromatography gas_sensor test_strip flow_cytometer fluorescence cuvette analyte
    sample_carousel refractometer
G01R Measuring electric variables; measuring magnetic variables
    voltmeter current_clamp magnetometer test_probe oscilloscope insulation_tester electricity_meter
    magnetic_resonance probe_card fault_locator
G01S Radio direction-finding; radio navigation; locating by radio, sonar, lidar or analogous waves
    radar_echo satellite_positioning sonar_array lidar_point_cloud direction_finder range_gate GPS_receiver
    Doppler_shift beacon target_tracking
G02B Optical elements, systems or apparatus
    lens_barrel optical_fibre prism microscope_objective holographic_grating waveguide_display zoom_lens
    polariser beam_splitter headset_eyepiece
G06F Electric digital data processing
    processor_core cache_line touch_screen file_system virtual_machine instruction_pipeline database_index
    memory_controller keyboard source_code
G06N Computing arrangements based on specific computational models
    neural_network training_set qubit reinforcement_agent classifier gradient_descent inference_engine
    embedding_vector decision_tree spiking_neuron
G06Q Information and communication technology for administrative, commercial or financial purposes
    online_payment shopping_cart insurance_claim supply_chain loyalty_card stock_trading advertisement_bid
    invoice customer_account auction
G06T Image data processing or generation, in general
    pixel_value texture_map image_segmentation depth_image edge_detection ray_tracing point_registration
    camera_pose video_frame tomographic_slice
H01L Semiconductor devices not covered by class H10
    wafer transistor_gate photoresist silicon_substrate etching_chamber epitaxial_layer trench_isolation
    bonding_pad diode dielectric_film
H01M Processes or means for the direct conversion of chemical energy into electrical energy
    lithium_cell fuel_cell_stack electrolyte cathode_material anode_layer battery_pack separator_film
    bipolar_plate electrode_slurry current_collector
H02J Circuit arrangements or systems for supplying or distributing electric power; storing electric energy
    power_grid wireless_charger microgrid energy_storage load_shedding backup_supply grid_frequency
    charge_controller busbar photovoltaic_string
H02K Dynamo-electric machines
    stator_winding rotor_magnet electric_motor generator commutator armature slot_insulation brushless_motor
    magnet_pole end_winding
H04B Transmission
    antenna_diversity repeater optical_transmitter echo_canceller radio_receiver fading_channel
    power_amplifier beamforming spread_spectrum crosstalk
H04L Transmission of digital information, e.g. telegraphic communication
    packet router encryption_key network_switch retransmission firewall authentication_token multicast
    symbol_rate session_protocol
H04N Pictorial communication, e.g. television
    television_signal image_sensor video_codec motion_vector set_top_box digital_camera chroma_plane scanner
    streaming_bitrate white_balance
H04W Wireless communication networks
    base_station handover mobile_terminal paging_message radio_resource access_point random_access
    uplink_grant cell_coverage roaming
Y02E Reduction of greenhouse gas emissions, related to energy generation, transmission or distribution
    wind_turbine solar_panel biomass_boiler geothermal_well tidal_generator carbon_capture nuclear_fuel
    photovoltaic_cell hydropower biogas
Y02T Climate change mitigation technologies related to transportation
    fuel_saving aircraft_weight hybrid_truck ship_hull_drag charging_infrastructure emission_reduction
    low_rolling_tyre engine_downsizing electric_aircraft start_stop_system
Y10T Technical subjects covered by former US classification
    hand_tool fastener_clip sheet_stock machine_element joint_coupling cutting_die gear_train bearing_race
    woven_article pipe_joint
"""

# A technical term and its counterpart: what the one patent calls the first, the patent that cites it
# tends to call the second. The pairs are the same in every sample: what a model learns here carries over.
_PAIRS = """
valve = shut-off member; spring = resilient biasing means; housing = enclosing shell;
bolt = threaded tie rod; sensor = detecting element; pump = fluid displacer; motor = rotary drive;
shaft = elongate spindle; bearing = journal support; gasket = sealing ring; lever = pivoted arm;
hinge = articulation joint; cam = eccentric lobe; clutch = releasable torque connector;
brake = retarding device; wheel = rolling disc; rope = tension strand; hose = flexible conduit;
tank = storage vessel; heater = thermal energy source; cooler = heat extractor; fan = air mover;
screen = perforated sheet; knife = severing edge; screw = helical fastener; wedge = tapered insert;
ratchet = one-way stepping detent; piston = reciprocating plunger; flywheel = inertial mass;
magnet = flux generator; coil = inductive winding; switch = contact maker; relay = remote-actuated breaker;
fuse = sacrificial overcurrent link; lamp = illuminator; mirror = reflecting surface;
lens = refractive body; antenna = radiating aperture; amplifier = gain stage;
oscillator = periodic waveform source; counter = pulse tally register; clock = timing reference;
memory = data store; processor = arithmetic unit; display = visual readout; keypad = manual entry panel;
battery = electrochemical accumulator; transformer = mutual induction coupler; capacitor = charge reservoir;
resistor = ohmic load; cable = insulated lead; plug = male connector; socket = receptacle;
grommet = edge protector; adhesive = bonding agent; solvent = dissolving liquid; pigment = colouring matter;
detergent = surfactant wash; catalyst = reaction promoter; inhibitor = rate suppressor;
buffer = acidity stabiliser; gel = semi-solid network; foam = cellular expanded mass;
powder = comminuted solid; slurry = particle suspension; vapour = gaseous phase; crystal = ordered lattice;
glass = vitreous body; ceramic = sintered refractory; alloy = fused metal mixture; film = thin web;
fibre = slender strand; fabric = textile layer; paper = cellulosic sheet; wood = lignified stock;
rubber = vulcanised elastomer; leather = tanned hide; wax = paraffinic solid; oil = lubricating medium;
grease = thickened lubricant; acid = proton donor; salt = ionic solid; enzyme = biological converter;
protein = folded amino chain; cell = living unit; virus = infectious particle; tissue = organ matter;
needle = hollow piercer; syringe = dosing barrel; implant = indwelling body; mask = facial covering;
glove = hand covering; shoe = foot enclosure; belt = endless band; buckle = strap fastener;
zipper = interlocking teeth closure; handle = grip portion; lid = removable cover;
drawer = sliding compartment; shelf = horizontal support; ladder = climbing rungs; wall = upright partition;
window = glazed opening; door = closure leaf; roof = overhead covering; floor = walking surface;
beam = load-bearing girder; column = vertical strut; anchor = ground fixing; drain = run-off outlet;
pipe = tubular line; nozzle = discharge spout; burner = flame outlet; furnace = heated chamber;
chimney = flue stack; boiler = steam raiser; condenser = liquefier; refrigerant = working coolant;
conveyor = moving track; crane = hoisting machine; gripper = clamping fingers;
robot = programmable manipulator; gear = toothed rotor; chain = linked drive; pulley = grooved sheave;
joystick = two-axis command stick; camera = picture taking unit; microphone = acoustic pickup;
loudspeaker = sound emitter; laser = coherent light source; filter = straining medium;
mixer = blending chamber; grinder = abrading tool; mould = shaping cavity; die = forming tool;
press = compressing machine; lathe = turning machine; drill = boring implement; saw = toothed cutter;
hammer = percussive head; pliers = hinged jaws; tape = adhesive strip; label = printed marker;
barcode = machine-readable symbol; password = secret credential; message = transmitted datagram;
queue = waiting list; algorithm = computing procedure; database = record collection; server = remote host;
browser = page viewer; icon = on-screen pictogram; cursor = pointing mark; ticket = entry voucher;
price = monetary value; alarm = warning signal; thermometer = temperature probe; gauge = level indicator;
timer = delay unit; parachute = drag canopy; propeller = thrust screw; rudder = steering fin;
wing = lifting plane; tyre = pneumatic tread
"""


def _words(text: str) -> list[str]:
    """Split a block of words; a list literal would take a line a word."""
    return text.split()


GENERAL = _words("""
    portable compact modular durable flexible robust low-cost high-speed simplified rigid reversible
    removable continuous composite combined dual multi-stage self-contained remote-controlled sealed
    sterile reinforced lightweight tunable
""")

# Made-up stems: three syllables and an ending, which is what differs inside a line of inventions.
SYLLABLES = _words("""
    zor vat kel mib dra plu fen gos tri hax jun lom nep quo ris sul tev wyn bex cor dil fab gyr hul jas
    kro lur mox nix pel ruv sab tun vex wom zed bri cla dro flo gru kli mer nov pra ske sto tha vol yat
""")
ENDINGS = _words("ine inate oid ase")

# Sentences of an abstract in order: what fills the gaps, and the ways to say it.
# g: a general word, s: a subject word, c: a concept (a term or its counterpart), k: a made-up word.
SENTENCES: list[tuple[str, list[str]]] = [
    (
        "gscc",
        [
            "A {} {} is disclosed, in which the {} cooperates with the {}.",
            "The invention relates to a {} {} comprising the {} and also the {}.",
            "There is provided a {} {} whose {} is coupled to the {}.",
            "In a {} {}, the arrangement of {} and {} is improved.",
            "Described is a {} {} that includes at least one {} adjacent to the {}.",
        ],
    ),
    (
        "kscs",
        [
            " The {} serves the {} and is held by the {} near the {}.",
            " By means of the {}, the {} is connected through the {} with the {}.",
            " During use the {} moves along the {} until the {} engages the {}.",
            " Preferably the {} of the {} is arranged on the {} opposite to the {}.",
        ],
    ),
    (
        "",
        [
            "",
            " Other embodiments are also described and claimed.",
            " Further advantages will become apparent from the detailed description and the drawings.",
            " The manufacturing cost is thereby reduced and the reliability is increased.",
            " A method of operation and a system for carrying out the method are likewise disclosed.",
            " This arrangement requires little space and is easy to maintain over a long service life.",
            " Thus the drawbacks of known solutions, such as wear and noise, are largely avoided.",
        ],
    ),
    (
        "cgsc",
        [
            " The {} forms a {} part of the {} together with the {}.",
            " One embodiment replaces the {} by a {} {} which carries the {}.",
            " In response to the {}, a {} {} is set so as to act upon the {}.",
            " The {} may be made as a {} {} or be integrated in the {}.",
        ],
    ),
    (
        "kc",
        [
            " The {} is suitable for the {} in particular.",
            " Use is made of {} in order to protect the {}.",
            " The {} is adjustable with respect to the {}.",
            "",
        ],
    ),
]
TITLES: list[tuple[str, list[str]]] = [
    (
        "gsc",
        ["{} {} with {}", "{} {} having an improved {}", "{} {} including a suitable {}", "{} {} and {} therefor"],
    ),
    ("s", ["", " for use with the {}", " and method of making the {}"]),
]

# What breaks naive readers; {0} is the first word of a title or abstract, {1} the rest.
HARD = [
    '"{0}" so-called ""{1}',
    "{0},{1}, and more",
    "{0}\t{1}",
    "{0}\n{1}",
    "{0}\r\n{1}",
    "{0}; {1};",
    "{0} \\{1}\\",
    "   {0} {1}",
    "{0} of 5 µm ± 0.1 °C (Kühlgerät, ä ö ü ß) {1}",
    "{0} 中文 {1}",
    "{0} 🔧 {1}",
    '{0} {1}"',
]

SURNAMES = _words("""
    Sanctuary Chandrasekaran Müller Smith Tanaka Kim Olsen Rossi Nguyen Ivanov García Dubois Novák O'Brien
    Li Svensson Haddad Okafor Silva Schmidt
""")


def _parse_subclasses() -> dict[str, tuple[str, list[str]]]:
    found: dict[str, tuple[str, list[str]]] = {}
    for line in _SUBCLASSES.strip().splitlines():
        if not line.startswith(" "):
            symbol, title = line.split(" ", 1)
            found[symbol] = title.upper(), []
        else:
            found[symbol][1].extend(word.replace("_", " ") for word in line.split())
    return found


SUBCLASSES = _parse_subclasses()  # symbol → (title, ten subject words)
PAIRS = [tuple(" ".join(pair.split()).split(" = ")) for pair in _PAIRS.split(";")]  # [(term, counterpart)]
